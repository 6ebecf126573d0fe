//! The state folder: whose it is, whether the gateway may write there, how much room there is, and what kind of file system it is on.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Case;
use super::user::User;
use crate::disk::{self, DiskSpace, Mount};
use crate::finding::Finding;
use crate::keys::units::approximate_size;

/// Files that are looked at; there are a handful.
const FILES_MAX: usize = 1_000;

pub fn look(case: &Case) -> Vec<Finding> {
    let folder = &case.configuration.store.folder;
    let shown = folder.display();
    let there = match fs::metadata(folder) {
        Ok(there) if there.is_dir() => there,
        Ok(_) => return vec![Finding::bad(format!("{shown} is no folder"), "set store.path to another one")],
        Err(error) if error.kind() == io::ErrorKind::NotFound => return vec![of_missing(folder)],
        Err(error) => return vec![Finding::bad(format!("{shown}: {error}"), "set store.path to another folder")],
    };
    if let Err(error) = disk::may_write(folder) {
        let found = format!("nothing can be written to {shown}: {error}");
        let remedy = "run this as the gateway's user or as root; then let that user have the folder (chown -R), on a file system that is mounted rw";
        return vec![Finding::bad(found, remedy)];
    }
    let mut findings = Vec::new();
    if there.permissions().mode() & 0o022 != 0 {
        let found = format!("{shown} can be written by others than its owner");
        findings.push(Finding::warning(found, format!("chmod go-w {shown}")));
    }
    findings.extend(foreign_file(folder, &there));
    if findings.is_empty() {
        let owner = owner(there.uid());
        findings.push(Finding::well(format!("{shown} belongs to {owner}, as everything in it")));
    }
    findings
}

/// The gateway makes it at its start, if it may.
fn of_missing(folder: &Path) -> Finding {
    let (shown, part) = (folder.display(), disk::existing_part(folder));
    match disk::may_write(part) {
        Ok(()) => Finding::well(format!("{shown} is not there yet; it is made at the first start")),
        Err(error) => Finding::bad(
            format!("{shown} is not there, and cannot be made in {}: {error}", part.display()),
            "make it, and let the gateway's user have it; or set store.path to another folder",
        ),
    }
}

/// A file of another user than the folder: mostly of a gateway that root has started once.
fn foreign_file(folder: &Path, there: &Metadata) -> Option<Finding> {
    let entries = fs::read_dir(folder).ok()?.take(FILES_MAX).filter_map(Result::ok);
    let foreign = entries
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .find(|(_, file)| file.uid() != there.uid())?;
    let (path, file) = foreign;
    let (owner_of_file, owner_of_folder) = (owner(file.uid()), owner(there.uid()));
    let found = format!("{} belongs to {owner_of_file}, its folder to {owner_of_folder}", path.display());
    Some(Finding::bad(found, format!("stop the gateway, then chown -R {owner_of_folder} {}", folder.display())))
}

/// The name of a user, as far as the system's own file has it.
fn owner(uid: u32) -> String {
    User::of(uid).map_or_else(|| uid.to_string(), |user| user.name)
}

pub fn space(case: &Case) -> Vec<Finding> {
    let configuration = &case.configuration;
    let looked = configuration.capacity().and_then(|capacity| {
        let space = disk::space(disk::existing_part(&configuration.store.folder))?;
        Ok((capacity, space, configuration.store_file_bytes()?))
    });
    vec![match looked {
        Ok((capacity, space, held)) => {
            of_space(space, capacity.free_bytes_min, capacity.bytes_max.saturating_sub(held))
        }
        Err(error) => Finding::bad(format!("it is not known: {error}"), "look at the disk, and at store.path"),
    }]
}

/// `wanted`: how much the store may still grow.
fn of_space(space: DiskSpace, floor: u64, wanted: u64) -> Finding {
    let [free, total, least, growth] = [space.free_bytes, space.total_bytes, floor, wanted].map(approximate_size);
    let found = format!("{free} of {total} free");
    if space.free_bytes < floor {
        return Finding::bad(
            format!("{found}, less than the {least} that are to stay free: the store gives way"),
            "free some space; store.free_space_min says how much has to stay free",
        );
    }
    if space.free_bytes < floor.saturating_add(wanted) {
        return Finding::warning(
            format!("{found}; the store may grow by {growth} and leave {least} free, for which that is not enough"),
            "free some space, or lower store.size_max to what there is",
        );
    }
    Finding::well(format!("{found}; the store may grow by {growth}"))
}

pub fn file_system(case: &Case) -> Vec<Finding> {
    match disk::mount(disk::existing_part(&case.configuration.store.folder)) {
        Ok(Some(mount)) => of_mount(&mount),
        Ok(None) => vec![Finding::skipped("/proc/self/mountinfo does not name it")],
        Err(error) => vec![Finding::skipped(format!("it is not known: {error}"))],
    }
}

fn of_mount(mount: &Mount) -> Vec<Finding> {
    let Mount { path, kind, .. } = mount;
    let name = format!("{} ({kind})", path.display());
    let mut findings = Vec::new();
    let mut bad = |what: &str, remedy: &str| findings.push(Finding::bad(format!("{name} {what}"), remedy));
    let elsewhere = "set store.path to a folder on a disk of this machine (ext4, f2fs, xfs, btrfs)";
    match kind.as_str() {
        "tmpfs" | "ramfs" => bad("is memory: all that is stored is gone at the next restart", elsewhere),
        "nfs" | "nfs4" | "cifs" | "smb3" | "smbfs" | "9p" | "afs" | "ceph" | "lustre" | "fuse.sshfs"
        | "fuse.glusterfs" | "fuse.s3fs" | "fuse.rclone" => {
            bad("is on the network, where SQLite's write-ahead log does not work", elsewhere);
        }
        _ => {}
    }
    if mount.has("ro") {
        bad("is mounted read-only", "mount it rw; if it was: errors have made it read-only, see dmesg");
    }
    if ["nobarrier", "barrier=0", "fsync_mode=nobarrier"].iter().any(|option| mount.has(option)) {
        bad(
            "is mounted without barriers: a power cut may take what was acknowledged",
            "take nobarrier or barrier=0 from its line in /etc/fstab",
        );
    }
    let mut warn = |what: &str, remedy: &str| findings.push(Finding::warning(format!("{name} {what}"), remedy));
    if mount.is_writeback() {
        warn("has data=writeback: a power cut may damage the store", "mount it with data=ordered");
    }
    match kind.as_str() {
        "overlay" | "aufs" => warn(
            "is a layer over another one: what is stored may be gone with the container or at the next restart",
            "put store.path on a volume or a partition of its own",
        ),
        "vfat" | "exfat" | "msdos" | "ntfs" | "ntfs3" | "fuseblk" => {
            warn("keeps no journal that a power cut would leave whole", elsewhere);
        }
        _ => {}
    }
    if mount.has("sync") {
        warn(
            "is mounted with sync: every write waits, and wears the flash",
            "take sync away: the store syncs by itself",
        );
    }
    if mount.has("strictatime") {
        warn("writes the time of every access", "mount it with noatime");
    }
    if findings.is_empty() {
        let atime = if mount.has("noatime") { "" } else { "; noatime would save some writes" };
        findings.push(Finding::well(format!("{name}{atime}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;
    use crate::keys::units::MIB;

    fn verdicts(kind: &str, options: &str) -> Vec<(Verdict, String)> {
        let mount = Mount {
            path: "/var".into(),
            kind: kind.to_owned(),
            source: "/dev/x".to_owned(),
            options: options.split(',').map(str::to_owned).collect(),
            device: "8:1".to_owned(),
        };
        of_mount(&mount).into_iter().map(|finding| (finding.verdict, finding.found)).collect()
    }

    #[test]
    fn file_systems_that_lose_data_are_told_from_those_that_do_not() {
        for (kind, options, words) in [
            ("tmpfs", "rw", "is memory"),
            ("nfs4", "rw,noatime", "is on the network"),
            ("ext4", "ro,relatime,rw", "read-only"),
            ("ext4", "rw,nobarrier", "without barriers"),
            ("ext4", "rw,barrier=0", "without barriers"),
            ("f2fs", "rw,fsync_mode=nobarrier", "without barriers"),
        ] {
            let found = &verdicts(kind, options)[0];
            assert!(found.0 == Verdict::Bad && found.1.contains(words), "{kind} {options}: {found:?}");
        }
        for (kind, options, words) in [
            ("ext4", "rw,data=writeback", "data=writeback"),
            ("overlay", "rw", "a layer"),
            ("vfat", "rw", "no journal"),
            ("ext4", "rw,sync", "every write waits"),
            ("xfs", "rw,strictatime", "every access"),
        ] {
            let found = &verdicts(kind, options)[0];
            assert!(found.0 == Verdict::Warning && found.1.contains(words), "{kind} {options}: {found:?}");
        }
        assert_eq!(verdicts("ext4", "rw,noatime"), [(Verdict::Well, "/var (ext4)".to_owned())]);
        assert!(verdicts("ext4", "rw,relatime")[0].1.contains("noatime would save"));
    }

    #[test]
    fn space_is_held_against_the_floor_and_what_the_store_may_take() {
        let of = |free_bytes, floor, wanted| {
            of_space(DiskSpace { total_bytes: 100 * MIB, free_bytes }, floor, wanted).verdict
        };
        assert_eq!(of(50 * MIB, 10 * MIB, 40 * MIB), Verdict::Well);
        assert_eq!(of(50 * MIB, 10 * MIB, 41 * MIB), Verdict::Warning);
        assert_eq!(of(9 * MIB, 10 * MIB, 0), Verdict::Bad);
    }
}
