//! The container files in `tools/packaging`, as far as they can be tested without a container engine.

use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use luxcast::config::SETTINGS;

use crate::harness::{Client, Scratch, Setup, luxcast};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped(name: &str) -> String {
    fs::read_to_string(project().join("tools/packaging").join(name)).expect("it is there")
}

/// Of the package in this folder of the project.
fn manifest(folder: &Path) -> toml::Table {
    let path = project().join(folder).join("Cargo.toml");
    fs::read_to_string(path).expect("it is there").parse().expect("TOML")
}

/// The instructions of each stage, each on one line.
fn stages() -> Vec<Vec<String>> {
    let text = shipped("Dockerfile").replace("\\\n", " ");
    let mut stages: Vec<Vec<String>> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if line.starts_with("FROM ") {
            stages.push(Vec::new());
        }
        stages.last_mut().expect("it begins with FROM").push(line.to_owned());
    }
    stages
}

/// The rest of each line of the image that begins with this word.
fn image(word: &str) -> Vec<String> {
    let last = stages().pop().expect("there is a stage");
    last.iter().filter_map(|line| Some(line.strip_prefix(word)?.trim().to_owned())).collect()
}

/// Its variables.
fn variables() -> Vec<(String, String)> {
    let pairs = image("ENV ").into_iter().map(|pair| {
        let (name, value) = pair.split_once('=').expect("name and value");
        (name.to_owned(), value.to_owned())
    });
    pairs.collect()
}

/// The words of an instruction in its exec form: there is no shell in the image.
fn words(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// A free port: the image's own may be in use here.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it listens").port()
}

/// The program as the image starts it, except for ports and paths of this machine.
fn contained(arguments: &[String], ports: [u16; 2], directory: &Path) -> Command {
    let mut command = luxcast();
    command.args(arguments);
    for (name, value) in variables() {
        let value = value.replace("20555", &ports[0].to_string()).replace("20556", &ports[1].to_string());
        command.env(name, value.replace("/run/luxcast", directory.to_str().expect("UTF-8")));
    }
    command
}

#[test]
fn the_image_is_built_in_its_own_stage_and_holds_only_the_program() {
    let stages = stages();
    assert_eq!(stages.len(), 2, "{stages:?}");
    assert!(stages[0][0].starts_with("FROM rust:") && stages[0][0].ends_with(" AS build"), "{stages:?}");
    let building = stages[0].join("\n");
    assert!(building.contains("cargo build --locked --release --package luxcast"), "{building}");
    let workspace = manifest(Path::new(""));
    let version = workspace["workspace"]["package"]["rust-version"].as_str().expect("it is given");
    assert!(stages[0][0].contains(&format!("rust:{version}")), "the oldest Rust that will do");
    assert_eq!(stages[1][0], "FROM scratch");
    assert_eq!(image("COPY "), ["--from=build /image/ /"]);
    assert!(image("RUN ").is_empty() && image("ADD ").is_empty());
    let user = image("USER ");
    assert_eq!(user, ["65534:65534"]);
    // Its directory for writing if there is no volume.
    assert!(
        building.contains("chown -R 65534:65534 /image/run/luxcast /image/var/lib/luxcast"),
        "{building}"
    );
    assert_eq!(image("EXPOSE "), ["20555 20556"]);
    assert_eq!(words(&image("ENTRYPOINT ")[0]), ["/luxcast"]);
}

#[test]
fn what_cargo_needs_is_let_into_the_build() {
    let ignored = shipped("Dockerfile.dockerignore");
    let let_in: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "nothing else is sent: {ignored}");
    // Cargo reads the manifest of each member, and checks that the roots of all its targets exist.
    let workspace = manifest(Path::new(""));
    let members = workspace["workspace"]["members"].as_array().expect("a list").iter();
    let folders = iter::once("").chain(members.map(|member| member.as_str().expect("a path")));
    let mut needed: Vec<PathBuf> =
        ["Cargo.lock", "src/console/build.rs", "benches/hot.rs"].map(PathBuf::from).into();
    for folder in folders.map(Path::new) {
        needed.push(folder.join("Cargo.toml"));
        let manifest = manifest(folder);
        let kinds = ["bin", "test", "example"].into_iter().filter_map(|kind| manifest.get(kind)?.as_array());
        needed.extend(kinds.flatten().map(|target| folder.join(target["path"].as_str().expect("a path"))));
    }
    for path in needed {
        assert!(project().join(&path).exists(), "{}", path.display());
        let is_in = path.ancestors().any(|part| part.to_str().is_some_and(|part| let_in.contains(part)));
        assert!(is_in, "{} is not among {let_in:?}", path.display());
    }
    for path in let_in {
        assert!(project().join(path).exists(), "{path}");
    }
}

#[test]
fn the_image_starts_and_is_healthy_and_admits_nobody_unasked() {
    let scratch = Scratch::new();
    let command = words(&image("CMD ")[0]);
    let run = |more: &[(&str, &str)]| -> Output {
        let mut command = contained(&command, [port(), port()], scratch.path());
        command.envs(more.iter().copied()).output().expect("it can be started")
    };
    let refused = run(&[]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("token_file") && error.contains("allow_anonymous"), "{error}");

    let tokens = scratch.path().join("tokens");
    fs::write(&tokens, "secret all\n").expect("the directory is ours");
    let ports = [port(), port()];
    let anonymous = [("LUXCAST_ALLOW_ANONYMOUS", "true")];
    let with_tokens = [("LUXCAST_TOKEN_FILE", tokens.to_str().expect("UTF-8"))];
    for more in [anonymous, with_tokens] {
        let mut setup = Setup::default();
        let daemon = contained(&command, ports, scratch.path());
        for (name, value) in daemon.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            setup = setup.variable(name.to_str().expect("UTF-8"), value.to_str().expect("UTF-8"));
        }
        setup = more.iter().fold(setup, |setup, (name, value)| setup.variable(name, value));
        let mut daemon = setup.start();
        assert!(
            daemon.address.ip().is_unspecified(),
            "`docker run -p` comes from outside: {}",
            daemon.address
        );
        assert!(daemon.admin.is_some_and(|address| address.ip().is_unspecified()));
        let asks = more[0].0 == "LUXCAST_TOKEN_FILE";
        let watcher = Client::try_connect(([127, 0, 0, 1], ports[0]).into(), "/api/ws/events");
        assert_eq!(watcher.err().map(|refused| refused.status), asks.then_some(401));
        // As the engine asks.
        let check = image("HEALTHCHECK ").pop().expect("there is one");
        let (_, check) = check.split_once(" CMD ").expect("a command");
        let [program, arguments @ ..] = &words(check)[..] else { panic!("{check}") };
        assert_eq!(program, "/luxcast");
        let health =
            || contained(arguments, ports, scratch.path()).envs(more).output().expect("it can be started");
        let healthy = health();
        assert!(healthy.status.success(), "{healthy:?}");
        daemon.stop();
        assert_eq!(health().status.code(), Some(1), "it is gone");
    }
}

#[test]
fn the_variables_in_the_files_are_settings() {
    let known: BTreeSet<String> = SETTINGS.iter().map(|setting| setting.variable()).collect();
    for file in ["Dockerfile", "compose.yaml"] {
        let text = shipped(file);
        let named: BTreeSet<&str> = text
            .split(|letter: char| !letter.is_ascii_uppercase() && letter != '_')
            .filter(|word| word.starts_with("LUXCAST_"))
            .collect();
        assert!(!named.is_empty(), "{file}");
        for name in named {
            assert!(known.contains(name), "{name} in {file}");
        }
    }
}

#[test]
fn the_settings_in_the_manifest_for_kubernetes_are_good() {
    let manifest = shipped("kubernetes.yaml");
    let (_, rest) = manifest.split_once("luxcast.toml: |\n").expect("a file of settings");
    let lines: Vec<&str> = rest.lines().map_while(|line| line.strip_prefix("    ")).collect();
    let scratch = Scratch::new();
    let file = |name: &str| scratch.path().join(name).to_str().expect("UTF-8").to_owned();
    fs::write(file("tokens"), "secret all\n").expect("the directory is ours");
    let mut settings = lines.join("\n");
    for (there, here) in [
        ("/run/secrets/luxcast/tokens", file("tokens")),
        ("/run/luxcast/ingest.sock", file("ingest.sock")),
        ("/var/lib/luxcast/state", file("state")),
    ] {
        assert_eq!(settings.matches(there).count(), 1, "{there}");
        let directory = Path::new(there).parent().and_then(Path::to_str).expect("it has one");
        assert!(manifest.contains(&format!("mountPath: {directory}}}")), "{directory} is mounted");
        settings = settings.replace(there, &here);
    }
    fs::write(file("luxcast.toml"), settings).expect("the directory is ours");
    let output = luxcast().args(["check-config", "--quiet", "--config", &file("luxcast.toml")]).output();
    let output = output.expect("it can be started");
    let errors =
        String::from_utf8_lossy(&output.stderr).replace(&format!("{}: everybody", file("tokens")), "");
    assert!(
        output.status.success() && !errors.contains("state_dir") && !errors.contains("ingest"),
        "{errors}"
    );
}
