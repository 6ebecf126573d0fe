//! What befalls the gateway, and its end.

use super::{DISK_BYTES, Happening, SECOND, World};
use crate::disk;
use crate::simulation::scenario::Fault;
use crate::sinks::status::Link;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        self.note(format_args!("{fault:?}"));
        match fault {
            Fault::PowerCut { after_calls: None, .. } | Fault::Kill { after_calls: None } => self.end_life(Some(fault)),
            Fault::PowerCut { after_calls: Some(calls), .. } | Fault::Kill { after_calls: Some(calls) } => {
                if self.cut.is_none() {
                    self.disk.switch_off_after(calls);
                    self.cut = Some(fault);
                }
            }
            Fault::DiskFull { bytes_left, seconds } => {
                self.count(fault.name());
                let used_bytes = DISK_BYTES - disk::simulated::space().map_or(0, |space| space.free_bytes);
                disk::simulated::set(self.folder.path(), used_bytes + bytes_left);
                self.after(seconds * SECOND, Happening::DiskFreed);
            }
            Fault::Refusals { call, after, count } => self.disk.refuse(call, after, count),
            Fault::SlowSyncs { ms_max, seconds } => {
                self.count(fault.name());
                (self.slow_ms_max, self.slow_until_us) = (ms_max, self.now_us + seconds * SECOND);
            }
            Fault::ClockJump { ms } => {
                self.count(fault.name());
                self.wall_offset_ms += ms;
                self.set_time(self.now_us);
            }
            Fault::Restart => self.stop(),
            Fault::LinkDown { sink, seconds } => {
                self.count(fault.name());
                self.set_link(sink, false);
                self.after(seconds * SECOND, Happening::LinkUp { sink });
            }
        }
    }

    pub(super) fn set_link(&mut self, sink: usize, is_up: bool) {
        let Some(gateway) = &mut self.gateway else { return };
        if self.is_stopping {
            return;
        }
        gateway.links[sink].send_replace(if is_up { Link::Up } else { Link::Down });
        self.tell_forwarders_of_links();
    }

    pub(super) fn heal(&mut self) {
        self.note(format_args!("heals"));
        self.is_healed = true;
        self.disk.heal();
        self.cut = None;
        disk::simulated::set(self.folder.path(), DISK_BYTES);
        self.slow_until_us = self.now_us;
        for sink in 0..self.clouds.len() {
            self.clouds[sink].weather = None;
            self.set_link(sink, true);
        }
    }

    /// The disk was switched off in a call: the power, or the process, went with it.
    pub(super) fn has_died(&mut self) -> bool {
        if !self.disk.is_off() {
            return false;
        }
        let cut = self.cut.take();
        self.end_life(cut);
        true
    }

    /// The process is gone, with all that it knew.
    pub(super) fn end_life(&mut self, fault: Option<Fault>) {
        self.note(format_args!("ends: {fault:?}"));
        self.disk.switch_off();
        self.gateway = None;
        crate::simulation::gateway::forget_begun_salvage();
        if let Some(fault) = fault {
            self.count(fault.name());
        }
        if let Some(Fault::PowerCut { cut, .. }) = fault {
            self.disk.lose_power(cut);
        }
        self.disk.switch_on();
        (self.cut, self.is_stopping) = (None, false);
        self.life += 1;
        self.checks.end_life();
        self.devices.iter_mut().for_each(|device| device.disconnect());
        self.choose_config();
        let us = self.random.within(SECOND / 5, 10 * SECOND);
        self.after(us, Happening::Boot);
    }

    /// Counts the disk's own refusals.
    pub(super) fn count_refusals(&mut self) {
        for (call, count) in self.disk.take_refused() {
            let name = Fault::Refusals { call, after: 0, count: 0 }.name();
            *self.faults.entry(name).or_default() += count;
        }
    }
}
