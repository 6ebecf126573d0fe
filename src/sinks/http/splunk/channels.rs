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

use super::super::body::guid;

/// A channel is not used again after it was idle for so long: indexers may remove it after ten minutes.
const IDLE_US_MAX: u64 = 240_000_000;
/// Longer cookies are not kept.
const COOKIE_BYTES_MAX: usize = 2 << 10;

/// In use by one post.
#[derive(Debug, PartialEq, Eq)]
pub struct Channel {
    id: String,
    last: Option<u64>,
    cookie: Option<String>,
}

/// Those that are not in use.
#[derive(Default)]
pub struct Channels {
    /// Each with the time that it was given back at.
    idle: Vec<(Channel, u64)>,
}

impl Channels {
    /// One that nobody else uses: a former one, or one of this random name.
    pub fn take(&mut self, random: [u8; 16], now_us: u64) -> Channel {
        self.idle.retain(|(_, since_us)| now_us.saturating_sub(*since_us) < IDLE_US_MAX);
        match self.idle.pop() {
            Some((channel, _)) => channel,
            None => Channel { id: name(random), last: None, cookie: None },
        }
    }

    /// Only once its post is acknowledged.
    pub fn give_back(&mut self, channel: Channel, now_us: u64) {
        self.idle.push((channel, now_us));
    }
}

impl Channel {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What leads to the same indexer again, where a load balancer says so.
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Whether a number can be of this channel's post.
    pub fn is_new(&mut self, acknowledgement: u64) -> bool {
        let is_new = self.last.is_none_or(|last| acknowledgement > last);
        self.last = self.last.max(Some(acknowledgement));
        is_new
    }

    /// Keeps the cookies of a response, which are the values of Set-Cookie.
    pub fn stay_with(&mut self, cookies: &[String]) {
        let pairs = cookies.iter().filter_map(|cookie| cookie.split(';').next()).map(str::trim);
        let kept: Vec<&str> =
            pairs.filter(|pair| pair.contains('=') && pair.bytes().all(|b| b.is_ascii_graphic())).collect();
        let cookie = kept.join("; ");
        if !cookie.is_empty() && cookie.len() <= COOKIE_BYTES_MAX {
            self.cookie = Some(cookie);
        }
    }
}

/// A UUID of version 4.
fn name(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    guid(random)
}

#[cfg(test)]
mod tests;
