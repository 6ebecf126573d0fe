//! A name that stands twice in one object. Readers of JSON disagree on what that means, so numbers that differ are refused; of texts the
//! last one is taken, as most readers do.

use super::value::{Field, Value};

/// Up to so many fields are compared with each other; more are sorted first, so that a hostile payload costs no more than that.
pub const COMPARED_MAX: usize = 16;

/// Two fields of one name say different things, and at least one is a number.
#[derive(Debug)]
pub struct Contradiction;

/// Whether a name stands twice among the fields of an item.
pub fn is_any(item: &[Field], names: &str, order: &mut Vec<u32>) -> bool {
    let name = |field: &Field| &names.as_bytes()[field.name_start..field.name_end];
    if item.len() <= COMPARED_MAX {
        let len = |field: &Field| field.name_end - field.name_start;
        let is_same = |a: &Field, b: &Field| len(a) == len(b) && name(a) == name(b);
        return item.iter().enumerate().any(|(at, field)| item[..at].iter().any(|other| is_same(other, field)));
    }
    sort(item, names, order);
    order.windows(2).any(|pair| name(&item[pair[0] as usize]) == name(&item[pair[1] as usize]))
}

/// Keeps one field of each name.
pub fn settle(item: &[Field], names: &str, order: &mut Vec<u32>) -> Result<Vec<Field>, Contradiction> {
    let name = |field: &Field| field.name_in(names);
    sort(item, names, order);
    let mut is_superseded = vec![false; item.len()];
    for pair in order.windows(2) {
        let (earlier, later) = (&item[pair[0] as usize], &item[pair[1] as usize]);
        if name(earlier) == name(later) {
            match (earlier.value, later.value) {
                (Value::Text { .. }, Value::Text { .. }) => {}
                (a, b) if a == b => {}
                _ => return Err(Contradiction),
            }
            is_superseded[pair[0] as usize] = true;
        }
    }
    let kept = item.iter().zip(is_superseded).filter(|(_, is_superseded)| !is_superseded);
    Ok(kept.map(|(field, _)| *field).collect())
}

/// By name, and equal names in the order of the payload.
fn sort(item: &[Field], names: &str, order: &mut Vec<u32>) {
    order.clear();
    order.extend(0..item.len() as u32);
    order.sort_unstable_by(|a, b| {
        let (left, right) = (item[*a as usize].name_in(names), item[*b as usize].name_in(names));
        left.cmp(right).then(a.cmp(b))
    });
}
