//! Checks whether a file or a directory could be made, without making it.

use std::io;
use std::path::Path;

use rustix::fs::{Access, PROC_SUPER_MAGIC, access, statfs};
use rustix::io::Errno;

/// File systems in which only the kernel makes files (linux/magic.h): sysfs, debugfs, tracefs, securityfs, devpts,
/// cgroup, cgroup2, selinuxfs, efivarfs. access(2) does not show that.
const KERNELS_OWN: [u64; 9] = [
    0x6265_6572,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x1cd1,
    0x0027_e0eb,
    0x6367_7270,
    0xf97c_ff8c,
    0xde5e_81e4,
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Made {
    File,
    Directory,
}

/// Checks whether a file or a directory could be made in `directory`.
///
/// # Errors
/// The error that making it would end with.
pub fn check(directory: &Path, made: Made) -> io::Result<()> {
    access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    // The width and sign of the type differ between machines; its low 32 bits do not.
    let kind = statfs(directory)?.f_type as u64 & 0xffff_ffff;
    match made {
        _ if kind == PROC_SUPER_MAGIC as u64 => Err(Errno::NOENT.into()),
        Made::File if KERNELS_OWN.contains(&kind) => Err(Errno::ACCESS.into()),
        Made::Directory if KERNELS_OWN.contains(&kind) => Err(Errno::PERM.into()),
        Made::File | Made::Directory => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{Made, check};

    #[test]
    fn the_answer_is_the_kernels_own() {
        let scratch = tempfile::tempdir().unwrap();
        let own = scratch.path();
        fs::write(own.join("file"), "").unwrap();
        let kernels = [Path::new("/proc"), Path::new("/proc/self"), Path::new("/sys"), Path::new("/dev/pts")];
        let existing = kernels.into_iter().filter(|directory| directory.exists());
        for directory in existing.chain([own, &own.join("none"), &own.join("file")]) {
            let shown = directory.display();
            let path = directory.join("luxcast-makes-this");
            let file = fs::File::create_new(&path).map_err(|error| error.raw_os_error());
            let _ = fs::remove_file(&path);
            let for_file = check(directory, Made::File).map_err(|error| error.raw_os_error());
            assert_eq!(for_file.is_ok(), file.is_ok(), "{shown}");
            let subdirectory = fs::create_dir(&path).map_err(|error| error.raw_os_error());
            let _ = fs::remove_dir(&path);
            let for_directory = check(directory, Made::Directory).map_err(|error| error.raw_os_error());
            assert_eq!(for_directory.is_ok(), subdirectory.is_ok(), "{shown}");
            if directory == Path::new("/proc") {
                assert_eq!(
                    (file.err(), subdirectory.err()),
                    (for_file.err(), for_directory.err()),
                    "{shown}"
                );
            }
        }
    }
}
