//! Licence expressions as packages write them, and whether a list of licences allows one.

/// Whether the licences of a list allow what an expression asks for; `None` where it cannot be read.
pub fn is_allowed(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    // `MIT/Apache-2.0` is how packages wrote OR before SPDX.
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut reader = Reader { words: spaced.split_whitespace().collect(), at: 0, allowed };
    let found = reader.any()?;
    (reader.at == reader.words.len()).then_some(found)
}

struct Reader<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a dyn Fn(&str) -> bool,
}

impl Reader<'_> {
    fn any(&mut self) -> Option<bool> {
        let mut found = self.all()?;
        while self.take("OR") {
            found |= self.all()?;
        }
        Some(found)
    }

    fn all(&mut self) -> Option<bool> {
        let mut found = self.one()?;
        while self.take("AND") {
            found &= self.one()?;
        }
        Some(found)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let found = self.any()?;
            return self.take(")").then_some(found);
        }
        let name = self.word()?;
        if self.take("WITH") {
            let exception = self.word()?;
            return Some((self.allowed)(&format!("{name} WITH {exception}")));
        }
        // `+` adds later versions to choose from; the one that is named stays allowed.
        Some((self.allowed)(name.trim_end_matches('+')))
    }

    fn word(&mut self) -> Option<String> {
        let word = self.words.get(self.at).filter(|word| !["(", ")", "AND", "OR", "WITH"].contains(word))?;
        self.at += 1;
        Some((*word).to_owned())
    }

    fn take(&mut self, word: &str) -> bool {
        let there = self.words.get(self.at) == Some(&word);
        self.at += usize::from(there);
        there
    }
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[track_caller]
    fn check(expression: &str, expected: Option<bool>) {
        let list = ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC", "MPL-2.0"];
        assert_eq!(is_allowed(expression, &|name| list.contains(&name)), expected, "{expression}");
    }

    #[test]
    fn expressions_are_read_as_spdx_says() {
        check("MIT", Some(true));
        check("GPL-3.0", Some(false));
        check("GPL-3.0 OR MIT", Some(true));
        check("GPL-3.0 AND MIT", Some(false));
        check("GPL-3.0/MIT", Some(true));
        check("MPL-2.0+", Some(true));
        check("Apache-2.0 WITH LLVM-exception", Some(true));
        check("Apache-2.0", Some(false));
        check("ISC AND (Apache-2.0 OR ISC) AND MIT", Some(true));
        check("MIT AND ISC OR GPL-3.0", Some(true));
        check("MIT AND (ISC", None);
        check("MIT ISC", None);
        check("", None);
    }
}
