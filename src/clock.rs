//! What the system says of its clock.

/// Whether the kernel holds the system clock synchronised. Where it cannot be asked, it is taken to be.
pub fn is_synchronised() -> bool {
    // SAFETY: all zeroes is a valid `timex` that asks for nothing but the state.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `state` is a valid `timex`.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    result < 0 || (result != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0)
}
