//! The methods that a path takes.

/// What can be asked of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// A stream has no end, and so no answer to a HEAD.
    OfStream,
    /// An answer that ends.
    OfAnswer,
    /// The same for operators: no page may ask.
    OfOperators,
    /// Events come in.
    OfPublishing,
}

impl Methods {
    /// The field that names them, with its CR LF.
    pub fn field(self) -> &'static str {
        match self {
            Methods::OfStream => "Allow: GET, OPTIONS\r\n",
            Methods::OfAnswer => "Allow: GET, HEAD, OPTIONS\r\n",
            Methods::OfOperators => "Allow: GET, HEAD\r\n",
            Methods::OfPublishing => "Allow: POST, OPTIONS\r\n",
        }
    }

    /// As one list.
    pub fn names(self) -> &'static str {
        self.field().trim_start_matches("Allow: ").trim_end()
    }

    /// Whether this is one of them. Case matters (RFC 9110, 9.1).
    pub fn has(self, method: &str) -> bool {
        // Every request is judged by this: no list is cut for it.
        match self {
            Methods::OfStream => matches!(method, "GET" | "OPTIONS"),
            Methods::OfAnswer => matches!(method, "GET" | "HEAD" | "OPTIONS"),
            Methods::OfOperators => matches!(method, "GET" | "HEAD"),
            Methods::OfPublishing => matches!(method, "POST" | "OPTIONS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Methods;

    #[test]
    fn methods_are_found_by_their_whole_names() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(Methods::OfAnswer.has(method), "{method}");
        }
        assert!(!Methods::OfStream.has("HEAD") && !Methods::OfOperators.has("OPTIONS"));
        for method in ["", "get", "GE", "GET,", "GET, HEAD", "POST", ":", "Allow"] {
            assert!(!Methods::OfAnswer.has(method), "{method}");
        }
        for methods in [Methods::OfStream, Methods::OfAnswer, Methods::OfOperators, Methods::OfPublishing] {
            let named: Vec<&str> = methods.names().split(", ").collect();
            for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"] {
                assert_eq!(methods.has(method), named.contains(&method), "{method}");
            }
        }
    }
}
