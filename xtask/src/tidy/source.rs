//! Rust source as rules look at it: the same text at the same places, with comments and the insides of literals
//! blanked, so that a word in a sentence is not taken for code.

use std::ops::Range;

/// Source with comments and literals blanked; as long as the text it was made of, with its lines.
#[derive(Debug)]
pub struct Source {
    /// The code that is left.
    pub code: String,
}

/// A module written in place.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// Its name.
    pub name: String,
    /// From its keyword to its closing brace.
    pub span: Range<usize>,
}

impl Source {
    /// Blanks a text.
    pub fn new(text: &str) -> Self {
        let mut blank = Blanker { text, at: 0, code: String::with_capacity(text.len()) };
        while blank.at < text.len() {
            blank.step();
        }
        Self { code: blank.code }
    }

    /// The line of a place, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// The places of a word that stands alone.
    pub fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> + 'a {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(is_of_name) && !after.is_some_and(is_of_name)
        })
    }

    /// Every module written in place.
    pub fn modules(&self) -> Vec<Block> {
        self.words("mod")
            .filter_map(|at| {
                let name = self.name_behind(at + "mod".len());
                let body = self.body(at)?;
                (!name.is_empty()).then_some(Block { name, span: at..body.end })
            })
            .collect()
    }

    /// Names behind `mod` whose code is in a file of its own, and where they stand.
    pub fn module_files(&self) -> Vec<(usize, String)> {
        self.words("mod")
            .filter_map(|at| {
                let name = self.name_behind(at + "mod".len());
                let rest = self.code[at + "mod".len()..].trim_start().strip_prefix(name.as_str())?;
                (!name.is_empty() && rest.trim_start().starts_with(';')).then_some((at, name))
            })
            .collect()
    }

    /// Every `loop` and `while`, from its keyword to its closing brace.
    pub fn loops(&self) -> Vec<Range<usize>> {
        ["loop", "while"]
            .into_iter()
            .flat_map(|keyword| self.words(keyword))
            .filter_map(|at| Some(at..self.body(at)?.end))
            .collect()
    }

    /// The parts that are compiled for tests alone.
    pub fn tests(&self) -> Vec<Range<usize>> {
        self.code.match_indices("#[cfg(test)]").filter_map(|(at, _)| Some(at..self.body(at)?.end)).collect()
    }

    fn name_behind(&self, at: usize) -> String {
        self.code[at..].trim_start().chars().take_while(|&found| is_of_name(found)).collect()
    }

    /// The braces that open before the item at this place ends.
    fn body(&self, at: usize) -> Option<Range<usize>> {
        let mut depth = 0_usize;
        let mut open = None;
        for (offset, found) in self.code[at..].char_indices() {
            let here = at + offset;
            match found {
                '(' | '[' => depth += 1,
                ')' | ']' => depth = depth.saturating_sub(1),
                ';' if depth == 0 && open.is_none() => return None,
                '{' => {
                    depth += 1;
                    open = open.or(Some((here, depth)));
                }
                '}' => {
                    if let Some((start, opened_at)) = open
                        && depth == opened_at
                    {
                        return Some(start..here + 1);
                    }
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
        }
        None
    }
}

fn is_of_name(found: char) -> bool {
    found.is_alphanumeric() || found == '_'
}

struct Blanker<'a> {
    text: &'a str,
    at: usize,
    code: String,
}

impl Blanker<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    /// Takes one token, or one character that is of no interest.
    fn step(&mut self) {
        let rest = self.rest();
        if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            self.blank(length);
        } else if rest.starts_with("/*") {
            self.blank(comment_length(rest));
        } else if let Some((prefix, length)) = literal(rest) {
            self.keep(prefix);
            self.blank(length - prefix);
        } else {
            let name: usize = rest.chars().take_while(|&found| is_of_name(found)).map(char::len_utf8).sum();
            self.keep(name.max(rest.chars().next().map_or(1, char::len_utf8)));
        }
    }

    fn keep(&mut self, length: usize) {
        let kept = &self.text[self.at..self.at + length];
        self.code.push_str(kept);
        self.at += length;
    }

    /// One space for each byte, so that places stay what they were.
    fn blank(&mut self, length: usize) {
        let blanked = &self.text[self.at..self.at + length];
        self.code.extend(blanked.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        self.at += length;
    }
}

fn comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The literal a text begins with: the length of its prefix, and of the whole.
fn literal(text: &str) -> Option<(usize, usize)> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| text.starts_with(prefix))?;
    let rest = &text[prefix.len()..];
    if rest.starts_with('"') && !prefix.ends_with('r') {
        return Some((prefix.len(), prefix.len() + quoted_length(rest, '"')));
    }
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let inside = rest[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some((prefix.len(), prefix.len() + hashes + 1 + length));
    }
    // Not a lifetime: an escape, or one character and the closing quote.
    let mut after = rest.strip_prefix('\'')?.chars();
    let is_character = matches!((after.next(), after.next()), (Some('\\'), _) | (Some(_), Some('\'')));
    is_character.then(|| (prefix.len(), prefix.len() + quoted_length(rest, '\'')))
}

fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = true;
    for (at, found) in text.char_indices() {
        match found {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            found if found == quote => return at + found.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::{Block, Source};

    #[track_caller]
    fn blanked(text: &str, code: &str) {
        let found = Source::new(text);
        assert_eq!(found.code, code);
        assert_eq!(found.code.len(), text.len());
    }

    #[test]
    fn comments_and_literals_are_blanked_and_nothing_else() {
        blanked("a // b\nc", "a     \nc");
        blanked("a /* b /* c */ d */ e", "a                   e");
        blanked(r#"a("b\"c", d)"#, "a(      , d)");
        blanked(r##"a(r#"b"c"#)"##, "a(r       )");
        blanked("b\"x\" 'y' b'z' '\\'' &'a str", "b        b         &'a str");
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        blanked("fn f<'a>(x: &'a str, r#fn: u8) {}", "fn f<'a>(x: &'a str, r#fn: u8) {}");
        blanked("['é', 'x']", "[    ,    ]");
        blanked("number", "number");
    }

    #[test]
    fn modules_are_written_in_place_or_in_files() {
        let source = Source::new("mod a; pub mod b { fn g(c: [u8; 2]) { {} } mod d; } mod e {}");
        let names: Vec<String> = source.modules().into_iter().map(|block| block.name).collect();
        assert_eq!(names, ["b", "e"]);
        assert_eq!(source.modules()[1], Block { name: "e".to_owned(), span: 52..60 });
        let files: Vec<String> = source.module_files().into_iter().map(|(_, name)| name).collect();
        assert_eq!(files, ["a", "d"]);
    }

    #[test]
    fn loops_are_found_but_not_counted_ones() {
        let source = Source::new("fn a() { for b in c { d } while e(f) { g } loop { h } }");
        let found: Vec<&str> = source.loops().into_iter().map(|span| &source.code[span]).collect();
        assert_eq!(found, ["loop { h }", "while e(f) { g }"]);
    }

    #[test]
    fn tests_are_known_by_their_attribute() {
        let source = Source::new("fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}");
        assert_eq!(&source.code[source.tests()[0].clone()], "#[cfg(test)]\nmod tests { fn b() {} }");
        assert!(Source::new("#[cfg(test)]\nmod tests;\nfn a() {}").tests().is_empty());
    }
}
