//! Hides the domain of anything that looks like an e-mail address.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]

/// `ada@example.com` becomes `ada@*******.com`: every letter of the domain but its last label is a star.
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        let (before, after) = rest.split_at(at + 1);
        masked.push_str(before);
        let end = after.find(|c: char| !is_domain(c)).unwrap_or(after.len());
        let (domain, behind) = after.split_at(end);
        let has_user = before[..at].chars().next_back().is_some_and(|c| !c.is_whitespace());
        match domain.trim_end_matches('.').rsplit_once('.') {
            Some((host, last)) if has_user && !host.is_empty() => {
                masked.extend(host.chars().map(|c| if c == '.' { '.' } else { '*' }));
                masked.push('.');
                masked.push_str(last);
                masked.push_str(&domain[host.len() + 1 + last.len()..]);
            }
            _ => masked.push_str(domain),
        }
        rest = behind;
    }
    masked.push_str(rest);
    masked
}

fn is_domain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-')
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn hides_domains_and_nothing_else() {
        let cases = [
            ("ada@example.com", "ada@*******.com"),
            ("Ada <ada@mail.example.co.uk>", "Ada <ada@****.*******.**.uk>"),
            ("a@b.c and d@e.f", "a@*.c and d@*.f"),
            ("write to ada@example.com.", "write to ada@*******.com."),
            ("no address", "no address"),
            ("@home", "@home"),
            ("ada@localhost", "ada@localhost"),
            ("ädä@exämple.com", "ädä@*******.com"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(mask(text), expected, "{text:?}");
        }
    }
}
