//! Whether a file or a directory could be made somewhere, asked without making it.

use std::io;
use std::path::Path;

use rustix::fs::{Access, PROC_SUPER_MAGIC, access, statfs};
use rustix::io::Errno;

/// File systems in which the kernel makes all there is (linux/magic.h): sysfs, debugfs, tracefs, securityfs, devpts,
/// both of cgroup, selinuxfs, efivarfs. Who has the rights is told that they suffice.
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

/// # Errors
/// What the kernel would answer.
pub fn check(directory: &Path, made: Made) -> io::Result<()> {
    access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    // The type's width and sign differ between machines, its low 32 bits do not.
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
        let place = scratch.path();
        fs::write(place.join("file"), "").unwrap();
        let there = [Path::new("/proc"), Path::new("/proc/self"), Path::new("/sys"), Path::new("/dev/pts")];
        let all = there.into_iter().filter(|place| place.exists());
        for place in all.chain([place, &place.join("none"), &place.join("file")]) {
            let made = place.join("luxcast-makes-this");
            let file = fs::File::create_new(&made).map_err(|error| error.raw_os_error());
            let _ = fs::remove_file(&made);
            let told = check(place, Made::File).map_err(|error| error.raw_os_error());
            assert_eq!(told.is_ok(), file.is_ok(), "{}", place.display());
            let directory = fs::create_dir(&made).map_err(|error| error.raw_os_error());
            let _ = fs::remove_dir(&made);
            let told = check(place, Made::Directory).map_err(|error| error.raw_os_error());
            assert_eq!(told.is_ok(), directory.is_ok(), "{}", place.display());
            if place == Path::new("/proc") {
                assert_eq!((file.err(), directory.err()), (told.err(), told.err()), "{}", place.display());
            }
        }
    }
}
