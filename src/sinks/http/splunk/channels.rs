//! Channels, and which acknowledgement is whose.
//!
//! An indexer counts the posts of each channel and acknowledges the number, so channel and number have to mean one post of ours for ever,
//! whichever of several indexers behind one address took it and whichever is asked. Hence:
//!
//! - A channel has one post at a time.
//! - A channel whose post ended in any other way than by its acknowledgement is never used again: an indexer may acknowledge that post later.
//! - A number that is not higher than the last one of its channel is of an indexer that counts by itself: nothing acknowledges that post.
//!
//! So nobody can say `true` for a channel and a number but an indexer that stored that very post. Channels are used again because an indexer keeps
//! each of them for a while and has room for so many; not after a pause in which it may have forgotten the channel and would count from 0.
//!
//! Where nothing leads back to the same indexer, a former channel mostly meets another one, whose number does not rise: that post is stored, but
//! in vain. So once this was seen, each post has a new channel, whose first number is always new, for an hour.

use super::super::body::guid;

/// A channel is not used again after it was idle for so long: indexers may remove it after ten minutes.
const IDLE_US_MAX: u64 = 240_000_000;
/// So long each post has a new channel after another indexer was met. It may have been one that started anew, so not for ever.
const NEW_ONLY_US: u64 = 3_600_000_000;
/// Cookies beyond this are not kept.
const COOKIE_BYTES_MAX: usize = 2 << 10;

/// In use by one post.
#[derive(Debug, PartialEq, Eq)]
pub struct Channel {
    id: String,
    last: Option<u64>,
    /// Names and values.
    cookies: Vec<(String, String)>,
}

/// Those that are not in use.
#[derive(Default)]
pub struct Channels {
    /// Each with the time that it was given back at.
    idle: Vec<(Channel, u64)>,
    /// Until then none is used again.
    new_only_until_us: u64,
}

impl Channels {
    /// One that nobody else uses: a former one, or one of this random name.
    pub fn take(&mut self, random: [u8; 16], now_us: u64) -> Channel {
        self.idle.retain(|(_, since_us)| now_us.saturating_sub(*since_us) < IDLE_US_MAX);
        match self.idle.pop() {
            Some((channel, _)) => channel,
            None => Channel { id: name(random), last: None, cookies: Vec::new() },
        }
    }

    /// The number of this channel did not rise.
    pub fn another_answered(&mut self, channel: &Channel, now_us: u64) {
        // With cookies, the load balancer leads back: it is the same indexer, which has started anew.
        if channel.cookies.is_empty() {
            self.idle.clear();
            self.new_only_until_us = now_us.saturating_add(NEW_ONLY_US);
        }
    }

    /// Only once its post is acknowledged.
    pub fn give_back(&mut self, channel: Channel, now_us: u64) {
        if now_us >= self.new_only_until_us {
            self.idle.push((channel, now_us));
        }
    }
}

impl Channel {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What leads to the same indexer again, where a load balancer says so.
    pub fn cookie(&self) -> Option<String> {
        let pairs: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Whether a number can be of this channel's post.
    pub fn is_new(&mut self, acknowledgement: u64) -> bool {
        let is_new = self.last.is_none_or(|last| acknowledgement > last);
        self.last = self.last.max(Some(acknowledgement));
        is_new
    }

    /// Keeps the cookies of a response, which are the values of Set-Cookie, beside those of others: not everybody on the way sets
    /// its own each time.
    pub fn stay_with(&mut self, set: &[String]) {
        for cookie in set {
            let mut parts = cookie.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            if name.is_empty() || !name.bytes().chain(value.bytes()).all(|b| b.is_ascii_graphic()) {
                continue;
            }
            let others = self.cookies.iter().filter(|(other, _)| other != name);
            let bytes: usize = others.map(|(name, value)| name.len() + value.len() + 3).sum();
            let is_over = value.is_empty() || parts.any(is_no_longer);
            if is_over || bytes + name.len() + value.len() < COOKIE_BYTES_MAX {
                self.cookies.retain(|(other, _)| other != name);
                if !is_over {
                    self.cookies.push((name.to_owned(), value.to_owned()));
                }
            }
        }
    }
}

/// Whether an attribute of a cookie takes it back.
fn is_no_longer(attribute: &str) -> bool {
    let Some((name, seconds)) = attribute.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("max-age") && seconds.trim().parse::<i64>().is_ok_and(|seconds| seconds <= 0)
}

/// A UUID of version 4.
fn name(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    guid(random)
}

#[cfg(test)]
mod tests;
