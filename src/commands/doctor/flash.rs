//! How much of its flash the gateway has worn, and how much is left.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::Case;
use crate::disk;
use crate::finding::Finding;
use crate::keys::units::{approximate_duration, approximate_size};

/// Where the kernel shows devices by their numbers.
const DEVICES: &str = "/sys/dev/block";
/// What a small, cheap card of flash takes in some years.
const BYTES_A_DAY_MAX: u64 = 20 << 30;
/// A rate over a shorter time says little.
const SETTLED_AFTER: Duration = Duration::from_secs(600);

pub fn look(case: &Case) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mount = disk::mount(disk::existing_part(&case.configuration.store.folder)).ok().flatten();
    if let Some(wear) = mount.and_then(|mount| Wear::read(Path::new(DEVICES), &mount.device)) {
        findings.push(wear.finding());
    }
    match case.running.answers() {
        Some(answers) => findings.extend(of_status(&answers.status)),
        None => findings.push(Finding::skipped("how much the gateway writes is not known: it does not answer")),
    }
    findings
}

/// What the running gateway says of itself.
fn of_status(status: &Value) -> Option<Finding> {
    let written = &status["cost"]["written"];
    let bytes = written["bytes"].as_u64()?;
    let uptime = Duration::from_secs(status["uptime_s"].as_u64()?);
    let (amount, up) = (approximate_size(bytes), approximate_duration(uptime));
    let so_far = format!("the gateway has written {amount} in {up}");
    let a_day = written["a_day"].as_f64()? as u64;
    if uptime < SETTLED_AFTER {
        return Some(Finding::well(so_far));
    }
    let found = format!("{so_far}, {} a day", approximate_size(a_day));
    Some(match a_day > BYTES_A_DAY_MAX {
        true => Finding::warning(
            found,
            "a larger store.commit_delay_max writes less often; so do fewer devices that publish one reading at a time",
        ),
        false => Finding::well(found),
    })
}

/// What an eMMC says of itself, in tenths of its life.
#[derive(Debug, PartialEq, Eq)]
struct Wear {
    /// Of its two kinds of memory the more worn one: 1 is up to a tenth, 11 is beyond its end.
    tenths: u32,
    /// Of its spare blocks: 1 is normal, 2 is 80 % used, 3 is 90 %.
    reserve: u32,
}

impl Wear {
    /// `None` where the device does not say, as most that are no eMMC.
    fn read(devices: &Path, numbers: &str) -> Option<Wear> {
        // A partition is within its disk.
        let partition = std::fs::canonicalize(devices.join(numbers)).ok()?;
        let mut folders = partition.ancestors().take(2).map(|folder| folder.join("device"));
        let device: PathBuf = folders.find(|folder| folder.join("life_time").exists())?;
        let number = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let life = std::fs::read_to_string(device.join("life_time")).ok()?;
        let reserve = std::fs::read_to_string(device.join("pre_eol_info")).ok();
        Some(Wear {
            tenths: life.split_whitespace().filter_map(number).max()?,
            reserve: reserve.and_then(|text| number(text.trim())).unwrap_or(0),
        })
    }

    fn finding(&self) -> Finding {
        let Wear { tenths, reserve } = self;
        let found = match tenths {
            0 => "the flash does not say how worn it is".to_owned(),
            1..=10 => format!("{} to {} % of the flash's life is used", (tenths - 1) * 10, tenths * 10),
            _ => "the flash is beyond its life".to_owned(),
        };
        let replace = "replace the medium";
        match (tenths, reserve) {
            (_, 3..) => Finding::bad(format!("{found}, and 90 % of its spare blocks are"), replace),
            (11.., _) => Finding::bad(found, replace),
            (_, 2) => Finding::warning(format!("{found}, and 80 % of its spare blocks are"), replace),
            (9.., _) => Finding::warning(found, "plan to replace the medium"),
            (0, _) => Finding::skipped(found),
            _ => Finding::well(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::finding::Verdict;

    #[test]
    fn an_emmc_is_found_by_the_numbers_of_a_partition() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = folder.path().join("devices/mmcblk0");
        std::fs::create_dir_all(disk.join("mmcblk0p2")).expect("made");
        std::fs::create_dir_all(disk.join("device")).expect("made");
        std::fs::create_dir_all(folder.path().join("block")).expect("made");
        std::fs::write(disk.join("device/life_time"), "0x02 0x0a\n").expect("written");
        std::fs::write(disk.join("device/pre_eol_info"), "0x01\n").expect("written");
        let devices = folder.path().join("block");
        for (name, target) in [("179:0", disk.clone()), ("179:2", disk.join("mmcblk0p2"))] {
            std::os::unix::fs::symlink(target, devices.join(name)).expect("linked");
            assert_eq!(Wear::read(&devices, name), Some(Wear { tenths: 10, reserve: 1 }), "{name}");
        }
        assert_eq!(Wear::read(&devices, "8:1"), None);
    }

    #[test]
    fn wear_is_judged_by_life_and_by_spare_blocks() {
        let of = |tenths, reserve| Wear { tenths, reserve }.finding().verdict;
        assert_eq!([of(1, 1), of(0, 1)], [Verdict::Well, Verdict::Skipped]);
        assert_eq!([of(9, 1), of(3, 2)], [Verdict::Warning; 2]);
        assert_eq!([of(11, 1), of(3, 3)], [Verdict::Bad; 2]);
    }

    #[test]
    fn what_the_gateway_writes_is_judged_once_it_has_run_for_a_while() {
        let of = |uptime_s: u64, a_day: u64| {
            of_status(
                &json!({ "uptime_s": uptime_s, "cost": { "written": { "bytes": 1 << 20, "a_day": a_day as f64 } } }),
            )
            .expect("there is a figure")
        };
        assert_eq!(of(30, 100 << 30).verdict, Verdict::Well);
        assert_eq!(of(3600, 1 << 30).found, "the gateway has written 1 MiB in 1 h, 1 GiB a day");
        assert_eq!(of(3600, 30 << 30).verdict, Verdict::Warning);
        assert_eq!(of_status(&Value::Null), None);
    }
}
