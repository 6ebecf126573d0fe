//! Faults and kills at random: each line is stored once, and in the order of its key.

use super::*;
use crate::core::delivery::Jitter;

const DEVICES: [&str; 5] = ["a", "b", "c", "d", "e"];
const LINES: u64 = 40;

/// What a gateway knows of one device.
#[derive(Clone, Default)]
struct Progress {
    done: u64,
    saved: u64,
    /// A record that has failed is sent again as it was.
    failed: Option<Vec<u64>>,
}

struct Run {
    world: World,
    random: Jitter,
    devices: Vec<Progress>,
    keeps_journal: bool,
}

impl Run {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.pause_us(bound, 1, u64::MAX) - 1
    }

    /// Positions of a device, from 1 on: no two devices have one in common.
    fn position(device: usize, line: u64) -> u64 {
        line * DEVICES.len() as u64 + device as u64
    }

    fn next_record(&mut self, device: usize) -> Vec<u64> {
        if let Some(failed) = &self.devices[device].failed {
            return failed.clone();
        }
        let from = self.devices[device].done;
        let to = (from + 1 + self.below(4)).min(LINES);
        (from..to).map(|line| Run::position(device, line)).collect()
    }

    fn break_something(&mut self) {
        let fault = match self.below(12) {
            0 | 1 => Fault::LostAnswer,
            2 => Fault::LostRequest,
            3 => Fault::Code([7, 20, 19, 5, 6, -1][self.below(6) as usize]),
            _ => return,
        };
        self.world.brokers.fail([fault]);
    }

    fn kill(&mut self) {
        if !self.keeps_journal {
            let _ = std::fs::remove_file(self.world.folder.path().join("test.journal"));
        }
        self.world.kill();
        for device in &mut self.devices {
            *device = Progress { done: device.saved, saved: device.saved, failed: None };
        }
    }

    fn save(&mut self) {
        self.devices.iter_mut().for_each(|device| device.saved = device.done);
        self.world.saves.begin().is_durable();
    }

    async fn step(&mut self) {
        self.break_something();
        let mut sent = Vec::new();
        for device in 0..DEVICES.len() {
            if self.devices[device].done < LINES && self.below(3) > 0 {
                sent.push((device, self.next_record(device)));
            }
        }
        if sent.is_empty() {
            return;
        }
        let records: Vec<_> = sent.iter().map(|(device, positions)| (DEVICES[*device], &positions[..])).collect();
        let outcomes = self.world.send(&records).await;
        for ((device, positions), outcome) in sent.into_iter().zip(outcomes) {
            let progress = &mut self.devices[device];
            match is_failure(&outcome) {
                true => progress.failed = Some(positions),
                false => (progress.done, progress.failed) = (progress.done + positions.len() as u64, None),
            }
        }
        match self.below(8) {
            0 => self.kill(),
            1 | 2 => self.save(),
            _ => {}
        }
    }

    /// How many lines are stored more than once.
    async fn repeats(seed: u64, keeps_journal: bool) -> usize {
        let world = World::new(2, 3).await;
        let devices = vec![Progress::default(); DEVICES.len()];
        let mut run =
            Run { world, random: Jitter::new((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)), devices, keeps_journal };
        while run.devices.iter().any(|device| device.done < LINES) {
            run.step().await;
        }
        let mut repeats = 0;
        for (device, name) in DEVICES.iter().enumerate() {
            let stored = run.world.positions(name);
            let mut once: Vec<u64> = Vec::new();
            for position in stored {
                match once.contains(&position) {
                    true => repeats += 1,
                    false => once.push(position),
                }
            }
            let all: Vec<u64> = (0..LINES).map(|line| Run::position(device, line)).collect();
            assert_eq!(once, all, "seed {seed}: lines of {name} are lost, or out of order");
        }
        repeats
    }
}

#[test]
fn whatever_breaks_each_line_is_stored_once() {
    run(async {
        for seed in 0..60 {
            assert_eq!(Run::repeats(seed, true).await, 0, "seed {seed}");
        }
    });
}

#[test]
fn without_the_journal_kills_repeat_lines() {
    run(async {
        let mut repeats = 0;
        for seed in 0..10 {
            repeats += Run::repeats(seed, false).await;
        }
        assert!(repeats > 20, "{repeats}");
    });
}
