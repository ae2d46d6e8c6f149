//! A separate machine for what papers ask a reader to type: the daemon's usual ports and paths are free there, and
//! what is written to `/etc`, `/tmp` or `/run` stays there. Only processes and programs are those of this machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process_group};

use super::{PATIENCE, Scratch};

/// Runs in the namespaces: a network with only loopback, and separate files where the samples write.
const SCENE: &str = r#"
set -e
python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14s", b"lo", 0x49, b""))'
mount -t tmpfs tmpfs /mnt
mkdir /mnt/scratch /mnt/project /mnt/programs /mnt/venv /mnt/etc
mount --bind "$SCRATCH" /mnt/scratch
mount --rbind "$PROJECT" /mnt/project
mount --bind "$PROGRAMS" /mnt/programs
mount --bind "$VENV" /mnt/venv
cp -a /etc/. /mnt/etc/ 2> /dev/null || true
echo 'luxcast:x:0:' >> /mnt/etc/group
mount --bind /mnt/etc /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /run/luxcast /var/lib/nginx /mnt/scratch/bin /mnt/scratch/run /mnt/scratch/tmp
mount --bind /mnt/scratch/tmp /tmp
cd /mnt/scratch/work
mkdir target node_modules
ln -s /mnt/programs target/release
ln -s /mnt/project/tools tools
ln -s /mnt/project/tests/e2e/node_modules/ws /mnt/project/tests/e2e/node_modules/undici node_modules/
ln -s /mnt/project/tools/javascript node_modules/luxcast
mkdir -p /etc/luxcast /etc/nginx/luxcast /etc/nginx/conf.d
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
  -keyout /etc/luxcast/privkey.pem -out /etc/luxcast/fullchain.pem 2> /dev/null
cp /etc/luxcast/*.pem /etc/nginx/luxcast/
cp /etc/luxcast/fullchain.pem /etc/luxcast/nats-ca.pem
umask 077
/mnt/programs/luxcast token --all > /etc/luxcast/tokens
echo SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY > /etc/luxcast/daemon.nk
echo 'token_file = "/etc/luxcast/tokens"' > /etc/luxcast/luxcast.toml
umask 022
cp /etc/luxcast/daemon.nk /etc/luxcast/nats-ca.pem .
cp /mnt/project/tools/packaging/nginx/luxcast.conf /etc/nginx/conf.d/
rm -f /etc/nginx/sites-enabled/*
sed -i 's/^user .*/user root;/' /etc/nginx/nginx.conf
echo ready
exec cat > /dev/null
"#;

/// The namespaces, and a directory that is `/mnt/scratch` in them. Commands run in `/mnt/scratch/work`.
pub struct Stage {
    holder: Child,
    scratch: Scratch,
    count: AtomicUsize,
}

/// A process group on a stage; it never outlives its test.
pub struct Actor {
    child: Child,
    what: String,
    out: PathBuf,
    err: PathBuf,
}

impl Stage {
    pub fn start() -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path().join("work")).expect("the directory is ours");
        let programs = Path::new(env!("CARGO_BIN_EXE_luxcast")).parent().expect("it is in a directory");
        let venv = programs.parent().expect("the target directory").join("e2e-venv");
        assert!(venv.exists(), "{} is not there: run tools/test, which makes it", venv.display());
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]).args((!geteuid().is_root()).then_some("--map-root-user"));
        command.args(["sh", "-c", SCENE]).env("SCRATCH", scratch.path()).env("PROGRAMS", programs);
        command.env("PROJECT", env!("CARGO_MANIFEST_DIR")).env("VENV", venv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("util-linux is installed");
        let mut line = String::new();
        let mut lines = BufReader::new(holder.stdout.take().expect("piped"));
        lines.read_line(&mut line).expect("it says that it is ready");
        assert_eq!(line, "ready\n", "no namespaces of our own");
        Self { holder, scratch, count: AtomicUsize::new(0) }
    }

    /// Writes a file in the directory in which commands run.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the disk has room");
    }

    /// The path of a file in that directory for this process.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join("work").join(name)
    }

    /// Runs these words with the programs under test first in the path.
    pub fn run(&self, words: &[&str]) -> Actor {
        let id = self.holder.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &id, "--net", "--mount"]);
        command.args(if geteuid().is_root() { &[][..] } else { &["--user", "--preserve-credentials"] });
        // Who started the tests may have had them ignore Ctrl-C, as a shell does for what runs in the background.
        let run = "cd /mnt/scratch/work && exec env --default-signal \"$@\"";
        command.args(["--", "sh", "-c", run, "sh"]).args(words);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LUXCAST_") {
                command.env_remove(name);
            }
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/mnt/scratch/bin:/mnt/programs:{path}"));
        command.env("XDG_RUNTIME_DIR", "/mnt/scratch/run").env("PYTHONUNBUFFERED", "1");
        command.env("PYTHONPATH", "/mnt/project/tools/python/src").env("PYTHONDONTWRITEBYTECODE", "1");
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let [out, err] = ["out", "err"].map(|kind| self.scratch.path().join(format!("{kind}-{number}")));
        let create = |path: &Path| fs::File::create(path).expect("the directory is ours");
        command.stdin(Stdio::null()).stdout(create(&out)).stderr(create(&err)).process_group(0);
        let child = command.spawn().expect("util-linux is installed");
        Actor { child, what: words.join(" "), out, err }
    }

    /// Runs it to its end, which must be a success; returns its standard output.
    pub fn finish(&self, words: &[&str]) -> String {
        let mut actor = self.run(words);
        let status = actor.wait();
        assert!(status.success(), "{status}: {actor}");
        actor.stdout()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Actor {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// Waits until it has ended, or this is so; returns how it ended.
    pub fn wait_until(&mut self, mut is_so: impl FnMut(&Self) -> bool) -> Option<ExitStatus> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return Some(status);
            }
            if is_so(self) {
                return None;
            }
            assert!(Instant::now() < until, "waited in vain: {self}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.wait_until(|_| false).expect("only its end ends the waiting")
    }

    pub fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(self.child.id().cast_signed()).expect("the child has a pid");
        let _ = kill_process_group(group, signal);
    }

    /// Ends it as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
        let status = self.wait();
        let is_clean = status.success() || status.code() == Some(130) || status.signal() == Some(2);
        assert!(is_clean, "{status}: {self}");
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (out, err) = (self.stdout(), self.stderr());
        let head: String = out.chars().take(2_000).collect();
        write!(to, "{}\n--- standard output ---\n{head}\n--- standard error ---\n{err}", self.what)
    }
}
