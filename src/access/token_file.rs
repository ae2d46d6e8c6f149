//! The token file: one token per line, with what its holder may do.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::access::patterns::Patterns;
use crate::access::rights::{Fingerprint, Issuer, Rights, Scopes, fingerprint};

/// Each handshake compares with all of them, which takes 0.1 ms.
pub const TOKENS_MAX: usize = 10_000;

/// What is wrong with a line. It never quotes the line: each word may be a misplaced token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFileError {
    /// Counted from 1.
    pub line: usize,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The first word is a scope.
    NoToken,
    /// Not visible ASCII.
    BadToken,
    BadHash,
    /// The same token as on that line.
    Repeated(usize),
    UnknownScope,
    RepeatedScope,
    BadIds,
    TooMany,
}

impl fmt::Display for TokenFileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::NoToken => formatter.write_str("a line begins with the token, its scopes follow"),
            Fault::BadToken => formatter.write_str("a token is visible ASCII without #"),
            Fault::BadHash => formatter.write_str("sha256: needs 64 hexadecimal digits after it"),
            Fault::Repeated(line) => write!(formatter, "the same token as on line {line}"),
            Fault::UnknownScope => formatter.write_str(
                "a word after the token is not one of jobs=, flows=, debug, all, admin, publish, publish= (# begins a comment)",
            ),
            Fault::RepeatedScope => formatter.write_str("a scope is given twice"),
            Fault::BadIds => formatter
                .write_str("jobs=, flows= and publish= need ids, separated by commas; a * may end an id, or mean all"),
            Fault::TooMany => write!(formatter, "there are more than {TOKENS_MAX} tokens"),
        }
    }
}

/// Reads the text of a token file.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Arc<Rights>>, TokenFileError> {
    let mut tokens = Vec::new();
    let mut lines: HashMap<Fingerprint, usize> = HashMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let at = |fault| TokenFileError { line, fault };
        let Some(rights) = parse_line(text).map_err(at)? else {
            continue;
        };
        if let Issuer::File(token) = rights.issuer
            && let Some(earlier) = lines.insert(token, line)
        {
            return Err(at(Fault::Repeated(earlier)));
        }
        if tokens.len() == TOKENS_MAX {
            return Err(at(Fault::TooMany));
        }
        tokens.push(Arc::new(rights));
    }
    Ok(tokens)
}

/// The lines, counted from 1, of a valid file whose token allows nothing; `debug` alone does not either.
pub fn lines_without_scope(text: &str) -> impl Iterator<Item = usize> {
    (1..).zip(text.lines()).filter_map(|(line, text)| {
        let Scopes { jobs, flows, all, admin, publish, debug: _ } = parse_line(text).ok()??.scopes;
        (jobs.is_empty() && flows.is_empty() && publish.is_empty() && !all && !admin).then_some(line)
    })
}

/// `None`: the line is empty, or a comment.
fn parse_line(line: &str) -> Result<Option<Rights>, Fault> {
    let mut words = line.split_ascii_whitespace().take_while(|word| !word.starts_with('#'));
    let Some(token) = words.next() else {
        return Ok(None);
    };
    let token = read_token(token)?;
    let mut scopes = Scopes::default();
    for word in words {
        add_scope(&mut scopes, word)?;
    }
    Ok(Some(Rights { issuer: Issuer::File(token), scopes, expires_at: None }))
}

fn read_token(word: &str) -> Result<Fingerprint, Fault> {
    // Words in the wrong order would make a scope the token, and everybody can guess that.
    if !matches!(add_scope(&mut Scopes::default(), word), Err(Fault::UnknownScope)) {
        return Err(Fault::NoToken);
    }
    if let Some(hash) = word.strip_prefix("sha256:") {
        return read_hash(hash).ok_or(Fault::BadHash);
    }
    let is_good = word.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    is_good.then(|| fingerprint(word.as_bytes())).ok_or(Fault::BadToken)
}

fn read_hash(digits: &str) -> Option<Fingerprint> {
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// The hash by which a token is written that only its holder shall know.
pub fn hashed(token: &str) -> String {
    format!("sha256:{}", HEXLOWER.encode(&fingerprint(token.as_bytes())))
}

fn add_scope(scopes: &mut Scopes, word: &str) -> Result<(), Fault> {
    match word.split_once('=') {
        Some(("jobs", ids)) => add_ids(&mut scopes.jobs, ids),
        Some(("flows", ids)) => add_ids(&mut scopes.flows, ids),
        Some(("publish", ids)) => add_ids(&mut scopes.publish, ids),
        None if word == "publish" => add_ids(&mut scopes.publish, "*"),
        _ => {
            let flag = match word {
                "debug" => &mut scopes.debug,
                "all" => &mut scopes.all,
                "admin" => &mut scopes.admin,
                _ => return Err(Fault::UnknownScope),
            };
            if std::mem::replace(flag, true) { Err(Fault::RepeatedScope) } else { Ok(()) }
        }
    }
}

fn add_ids(patterns: &mut Patterns, ids: &str) -> Result<(), Fault> {
    if !patterns.is_empty() {
        return Err(Fault::RepeatedScope);
    }
    *patterns = Patterns::new(ids.split(',')).map_err(|_| Fault::BadIds)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Fault, TOKENS_MAX, TokenFileError, hashed, lines_without_scope, parse};
    use crate::access::patterns::Patterns;
    use crate::access::rights::{Issuer, Scopes, fingerprint};

    fn fault(text: &str) -> (usize, Fault) {
        let TokenFileError { line, fault } = parse(text).unwrap_err();
        (line, fault)
    }

    #[test]
    fn a_line_is_a_token_and_its_scopes() {
        let text = "# operators\r\n\n  tok+en/1=  jobs=a,b* flows=* debug all admin # and why\n\t#x\nbare\n";
        let tokens = parse(text).unwrap();
        let expected = Scopes {
            jobs: Patterns::new(["a", "b*"]).unwrap(),
            flows: Patterns::new(["*"]).unwrap(),
            debug: true,
            all: true,
            admin: true,
            publish: Patterns::default(),
        };
        assert_eq!(tokens.len(), 2);
        assert!(tokens[0].issuer == Issuer::File(fingerprint(b"tok+en/1=")));
        assert_eq!(tokens[0].scopes, expected);
        assert_eq!(tokens[0].expires_at, None);
        assert_eq!(tokens[1].scopes, Scopes::default());
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn publish_is_for_all_or_for_some_ids() {
        let tokens = parse("a publish\nb publish=x,y*\nc all debug\n").unwrap();
        let publish = |place: usize| &tokens[place].scopes.publish;
        assert!(publish(0).cover("x") && publish(0).cover("z"));
        assert!(publish(1).cover("x") && publish(1).cover("yy") && !publish(1).cover("z"));
        assert!(publish(2).is_empty(), "whoever may watch all may publish nothing");
        assert_eq!(fault("a publish publish=x"), (1, Fault::RepeatedScope));
        assert_eq!(fault("a publish="), (1, Fault::BadIds));
        assert_eq!(fault("publish a"), (1, Fault::NoToken));
    }

    #[test]
    fn tokens_that_allow_nothing_are_found() {
        let text = "# none\nbare\n\na jobs=x\nb flows=*\nc all\nd admin\ne debug # all\nf debug all\ng publish\nh publish=x\n";
        assert_eq!(lines_without_scope(text).collect::<Vec<_>>(), [2, 8]);
    }

    #[test]
    fn a_hash_stands_for_its_token() {
        // FIPS 180-2, B.1: the SHA-256 of "abc".
        let hash = "BA7816BF8F01CFEA414140DE5DAE2223B00361a396177a9cb410ff61f20015ad";
        assert_eq!(parse(&format!("sha256:{hash} all")).unwrap(), parse("abc all").unwrap());
        assert_eq!(hashed("abc"), format!("sha256:{}", hash.to_lowercase()));
        for bad in ["", "0", &hash[1..], &format!("{hash}0"), &format!("{}g", &hash[1..])] {
            assert_eq!(fault(&format!("sha256:{bad} all")), (1, Fault::BadHash), "{bad}");
        }
    }

    #[test]
    fn bad_lines_are_numbered_and_never_quoted() {
        let cases = [
            ("jobs=a secret", Fault::NoToken),
            ("admin", Fault::NoToken),
            ("jobs=*", Fault::NoToken),
            ("jobs= secret", Fault::NoToken),
            ("secret#1 all", Fault::BadToken),
            ("sécret all", Fault::BadToken),
            ("secret everything", Fault::UnknownScope),
            ("all2 secret", Fault::UnknownScope),
            ("secret job=a", Fault::UnknownScope),
            ("secret debug=true", Fault::UnknownScope),
            ("secret all all", Fault::RepeatedScope),
            ("secret jobs=a jobs=b", Fault::RepeatedScope),
            ("secret jobs=", Fault::BadIds),
            ("secret jobs=a,,b", Fault::BadIds),
            ("secret flows=a*b", Fault::BadIds),
            ("first jobs=a", Fault::Repeated(1)),
        ];
        for (line, expected) in cases {
            let text = format!("first all\n# a comment\n{line}\n");
            assert_eq!(fault(&text), (3, expected), "{line}");
            let shown = parse(&text).unwrap_err();
            assert!(!format!("{shown} {shown:?}").contains("secret"), "{shown:?}");
        }
        let hash = hashed("first");
        assert_eq!(fault(&format!("first all\n{hash} all\n")), (2, Fault::Repeated(1)));
    }

    #[test]
    fn the_number_of_tokens_is_bounded() {
        let text = |count: usize| (0..count).map(|number| format!("t{number}\n")).collect::<String>();
        assert_eq!(parse(&text(TOKENS_MAX)).unwrap().len(), TOKENS_MAX);
        assert_eq!(fault(&text(TOKENS_MAX + 1)), (TOKENS_MAX + 1, Fault::TooMany));
    }
}
