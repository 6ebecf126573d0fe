fn main() {
    println!("outrider {}", env!("CARGO_PKG_VERSION"));
}
