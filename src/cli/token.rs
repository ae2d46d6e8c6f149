//! `luxcast token`: makes a static token, or signs a JSON Web Token.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueHint;
use clap::builder::PossibleValuesParser;
use data_encoding::BASE64URL_NOPAD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{EXIT_USAGE, say};
use crate::access::jwt::{Claims, Publish, sign};
use crate::access::patterns::Patterns;
use crate::access::token_file::hashed;
use crate::config::{JWT_ALGORITHMS, JwtAlgorithm};
use crate::net::clock::unix_micros;

/// Random bytes of a static token: 256 bits cannot be guessed.
const TOKEN_BYTES: usize = 32;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("scope").required(true).multiple(true).args(["jobs", "flows", "all", "admin", "publish"]))]
pub struct TokenArgs {
    /// Allow these jobs, separated by commas; ID* stands for all ids that begin with ID
    #[arg(long, value_name = "IDS", value_delimiter = ',', allow_hyphen_values = true, value_parser = pattern,
          value_hint = ValueHint::Other)]
    pub jobs: Vec<String>,
    /// Allow these flows, written as for --jobs
    #[arg(long, value_name = "IDS", value_delimiter = ',', allow_hyphen_values = true, value_parser = pattern,
          value_hint = ValueHint::Other)]
    pub flows: Vec<String>,
    /// Allow every job, every flow, and the stream of all events
    #[arg(long)]
    pub all: bool,
    /// Also allow /debug, and the breakpoint events, which carry variables
    #[arg(long)]
    pub debug: bool,
    /// Allow the admin listener
    #[arg(long)]
    pub admin: bool,
    /// Allow publishing over HTTP, for these jobs and flows, written as for --jobs; without IDS for all
    #[arg(long, value_name = "IDS", num_args = 0..=1, default_missing_value = "*", value_delimiter = ',',
          value_parser = pattern, value_hint = ValueHint::Other)]
    pub publish: Vec<String>,
    /// Print the line with the token's SHA-256 instead of the token, and the token on standard error
    #[arg(long, conflicts_with = "jwt")]
    pub sha256: bool,
    /// Sign a JSON Web Token instead
    #[arg(long, requires_all = ["key", "algorithm"])]
    pub jwt: bool,
    /// With --jwt: file with the secret (HS256), or with the private key in PEM
    #[arg(long, value_name = "FILE", requires = "jwt", value_hint = ValueHint::FilePath)]
    pub key: Option<PathBuf>,
    /// With --jwt: how to sign it
    #[arg(long, value_name = "NAME", requires = "jwt", value_parser = PossibleValuesParser::new(JWT_ALGORITHMS.map(|row| row.0)))]
    pub algorithm: Option<String>,
    /// With --jwt: how long it is valid [default: for ever]
    #[arg(long, value_name = "SECONDS", requires = "jwt", value_parser = clap::value_parser!(u64).range(1..=1 << 40), value_hint = ValueHint::Other)]
    pub expires: Option<u64>,
}

fn pattern(text: &str) -> Result<String, String> {
    let is_good = Patterns::new([text]).is_ok();
    is_good
        .then(|| text.to_owned())
        .ok_or_else(|| "must be an id, or the beginning of one followed by *".to_owned())
}

/// Exit code 0: it is on standard output. 1: it could not be made. 2: the key cannot be used.
pub fn run(args: TokenArgs) -> ExitCode {
    let text = match (&args.key, &args.algorithm) {
        (Some(path), Some(name)) => {
            let row = JWT_ALGORITHMS.iter().find(|row| row.0 == name);
            let algorithm = row.expect("clap lets no other name pass").1;
            match signed(&args, path, algorithm) {
                Ok(text) => text,
                Err(problem) => {
                    say(&format!("luxcast token: {problem}"));
                    return ExitCode::from(EXIT_USAGE);
                }
            }
        }
        _ => {
            let (token, line) = made(&args);
            if args.sha256 {
                say(&format!("luxcast token: the token, which the line does not reveal: {}", *token));
            }
            line
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("luxcast token: cannot write on standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Signs a token; returns it on one line.
fn signed(args: &TokenArgs, path: &PathBuf, algorithm: JwtAlgorithm) -> Result<String, String> {
    let shown = path.display();
    let key = fs::read(path).map(Zeroizing::new).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let now = (unix_micros() / 1_000_000) as u64;
    let claims = Claims {
        jobs: args.jobs.clone(),
        flows: args.flows.clone(),
        debug: args.debug,
        all: args.all,
        admin: args.admin,
        publish: match args.publish.iter().any(|ids| ids == "*") {
            true => Publish::All(true),
            false => Publish::Ids(args.publish.clone()),
        },
        exp: args.expires.map(|seconds| (now + seconds).into()),
        ..Claims::default()
    };
    let token = sign(algorithm, &key, &claims).map_err(|fault| format!("{shown}: {fault}"))?;
    Ok(format!("{token}\n"))
}

/// Makes a static token and its line for the token file, with a line end.
fn made(args: &TokenArgs) -> (Zeroizing<String>, String) {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    SystemRandom::new().fill(bytes.as_mut()).expect("the kernel has random numbers");
    let token = Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_ref()));
    let mut line = if args.sha256 { hashed(&token) } else { token.to_string() };
    for (name, ids) in [("jobs", &args.jobs), ("flows", &args.flows), ("publish", &args.publish)] {
        if !ids.is_empty() {
            let is_plain = name == "publish" && ids.iter().any(|ids| ids == "*");
            line.push_str(&if is_plain {
                " publish".to_owned()
            } else {
                format!(" {name}={}", ids.join(","))
            });
        }
    }
    for (name, is_on) in [("debug", args.debug), ("all", args.all), ("admin", args.admin)] {
        if is_on {
            line.push_str(&format!(" {name}"));
        }
    }
    line.push('\n');
    (token, line)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::{TokenArgs, made};
    use crate::access::token_file::{hashed, parse};

    fn args(words: &[&str]) -> Result<TokenArgs, clap::Error> {
        let command = TokenArgs::augment_args(clap::Command::new("token"));
        let words = std::iter::once("token").chain(words.iter().copied());
        TokenArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn a_static_token_comes_with_its_line() {
        let (token, line) =
            made(&args(&["--jobs", "a,b*", "--flows=*", "--debug", "--all", "--admin"]).unwrap());
        assert_eq!(token.len(), 43);
        assert_eq!(line, format!("{} jobs=a,b* flows=* debug all admin\n", *token));
        let (other, hash_line) = made(&args(&["--all", "--sha256"]).unwrap());
        assert_ne!(other, token);
        assert_eq!(hash_line, format!("{} all\n", hashed(&other)));
        assert_eq!(parse(&hash_line).unwrap(), parse(&format!("{} all", *other)).unwrap());
        let (token, line) = made(&args(&["--jobs", "-x,--y*", "--flows", "-z"]).unwrap());
        assert_eq!(line, format!("{} jobs=-x,--y* flows=-z\n", *token));
        // The output is a token file, and so is any number of outputs in a row.
        assert_eq!(parse(&(line + &hash_line)).unwrap().len(), 2);
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for words in [
            &[][..],
            &["--debug"],
            &["--jobs", "a,,b"],
            &["--jobs", "a*b"],
            &["--all", "--jwt"],
            &["--all", "--jwt", "--key", "k"],
            &["--all", "--key", "k"],
            &["--all", "--expires", "5"],
            &["--all", "--jwt", "--key", "k", "--algorithm", "none"],
            &["--all", "--jwt", "--key", "k", "--algorithm", "HS256", "--expires", "0"],
            &["--all", "--jwt", "--key", "k", "--algorithm", "HS256", "--sha256"],
        ] {
            assert_eq!(args(words).unwrap_err().exit_code(), 2, "{words:?}");
        }
        assert!(args(&["--admin", "--jwt", "--key", "k", "--algorithm", "EdDSA", "--expires", "60"]).is_ok());
    }
}
