//! Text for a page: escaping, base64, short numbers.

/// Makes any text safe inside elements and quoted attributes; control and direction characters are dropped.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Standard base64 with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            // n bytes fill n + 1 characters; the rest is padding
            let letter =
                ALPHABET.get((bits >> (18 - 6 * place)) as usize & 63).filter(|_| place <= chunk.len());
            out.push(letter.map_or('=', |&b| char::from(b)));
        }
    }
    out
}

/// A number with about four significant digits.
pub(super) fn short(x: f64) -> String {
    let size = x.abs();
    let text = match size {
        _ if !x.is_finite() => return "–".to_owned(),
        0.0 => return "0".to_owned(),
        s if !(1e-3..1e6).contains(&s) => return format!("{x:.2e}"),
        s if s >= 1000.0 => format!("{x:.0}"),
        s if s >= 100.0 => format!("{x:.1}"),
        s if s >= 10.0 => format!("{x:.2}"),
        s if s >= 1.0 => format!("{x:.3}"),
        _ => format!("{x:.4}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_the_published_values() {
        for (text, code) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), code); // RFC 4648, section 10
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn numbers_stay_short() {
        let texts = [0.0, 5.545_177, 0.25, 1500.0, 12.0, 1e-5, f64::NAN, -3.0].map(short);
        assert_eq!(texts, ["0", "5.545", "0.25", "1500", "12", "1.00e-5", "–", "-3"]);
    }

    #[test]
    fn markup_is_defused() {
        assert_eq!(escape("<b a=\"1\">&\u{202e}\u{7}'"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;");
    }
}
