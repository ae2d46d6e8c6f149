//! Reads `X-Forwarded-For`: the addresses that proxies name.

use std::net::{IpAddr, SocketAddr};

use memchr::memchr;

/// The addresses in all `X-Forwarded-For` lines of a head, the last one first; `None` for an item that is no address.
/// [`parse_head`](crate::wire::http::parse_head) must have accepted the head: its form is not checked again.
pub fn forwarded_for(head: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    let values = head.rsplit(|byte| *byte == b'\n').filter_map(value);
    // Several lines are one list (RFC 9110, 5.3), in which items may be empty (5.6.1).
    let items = values.flat_map(|value| value.rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    items.filter(|item| !item.is_empty()).map(read_address)
}

fn value(line: &[u8]) -> Option<&[u8]> {
    let colon = memchr(b':', line)?;
    line[..colon].eq_ignore_ascii_case(b"x-forwarded-for").then(|| &line[colon + 1..])
}

/// Some proxies add a port; an IPv6 address is then in brackets.
fn read_address(item: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(item).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::forwarded_for;

    /// The items as text, the last one first.
    fn items(fields: &str) -> Vec<String> {
        let head = format!("GET /a:b HTTP/1.1\r\nHost: a:1\r\n{fields}\r\n");
        let items = forwarded_for(head.as_bytes());
        items.map(|item| item.map_or("?".to_owned(), |address| address.to_string())).collect()
    }

    #[test]
    fn all_lines_are_one_list_read_from_its_end() {
        let fields =
            "X-Forwarded-For: 192.0.2.1, 192.0.2.2\r\nX-Other: 9.9.9.9\r\nx-FORWARDED-for:192.0.2.3\r\n";
        assert_eq!(items(fields), ["192.0.2.3", "192.0.2.2", "192.0.2.1"]);
        assert_eq!(items("X-Forwarded-For: , 192.0.2.1,,\t\r\nX-Forwarded-For:\r\n"), ["192.0.2.1"]);
        assert_eq!(items("X-Forwarded-Fo: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n"), [""; 0]);
        assert_eq!(items(""), [""; 0]);
    }

    #[test]
    fn an_item_is_an_address_with_or_without_a_port() {
        let table = [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:DB8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ];
        for (item, expected) in table {
            assert_eq!(items(&format!("X-Forwarded-For: {item}\r\n")), [expected]);
        }
        for bad in [
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.1:x",
            "192.0.2.256",
            "[2001:db8::1",
            "\"192.0.2.1\"",
            "a b",
            "\u{FC}",
        ] {
            let fields = format!("X-Forwarded-For: 192.0.2.1, {bad}, 192.0.2.2\r\n");
            assert_eq!(items(&fields), ["192.0.2.2", "?", "192.0.2.1"], "{bad}");
        }
    }
}
