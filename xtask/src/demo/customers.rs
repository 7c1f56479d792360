//! What the example answers: customers, with their addresses whole or hidden.

use std::fmt::Write as _;

use serde::Deserialize;

/// One customer of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    id: i64,
    name: String,
    /// Whole, or with its domain hidden.
    pub email: String,
}

/// The customers of `seed.sql`.
pub fn seeded() -> Vec<Customer> {
    let customer =
        |id, name: &str, email: &str| Customer { id, name: name.to_owned(), email: email.to_owned() };
    vec![
        customer(1, "Ada Lovelace", "ada@example.com"),
        customer(2, "Grace Hopper", "grace@navy.example.org"),
        customer(3, "Edsger Dijkstra", "edsger@example.nl"),
    ]
}

impl Customer {
    /// The same customer as the policy is to show it, by a rule written a second time: every character of the domain
    /// is a star, but for the dots and the last label.
    pub fn hidden(&self) -> Self {
        let hidden = self.email.split_once('@').and_then(|(user, domain)| {
            let (host, last) = domain.rsplit_once('.')?;
            let stars: String = host.chars().map(|found| if found == '.' { '.' } else { '*' }).collect();
            Some(format!("{user}@{stars}.{last}"))
        });
        Self { email: hidden.unwrap_or_else(|| self.email.clone()), ..self.clone() }
    }

    fn line(&self) -> String {
        format!("{:>2}  {:16}  {}", self.id, self.name, self.email)
    }
}

/// Both answers to one request, beside each other.
pub fn side_by_side(url: &str, policy: &str, whole: &[Customer], hidden: &[Customer]) -> String {
    let left: Vec<String> = whole.iter().map(Customer::line).collect();
    let right: Vec<String> = hidden.iter().map(Customer::line).collect();
    let width = |title: &str, lines: &[String]| {
        lines.iter().map(|line| line.chars().count()).chain([title.len()]).max().unwrap_or_default()
    };
    let titles = ["as deployed".to_owned(), format!("with the policy {policy}")];
    let (left_width, right_width) = (width(&titles[0], &left), width(&titles[1], &right));
    let mut table = format!("\nThe same component, unchanged, asked for {url}\n\n");
    // Writing to a string does not fail.
    let mut row = |left: &str, right: &str| {
        let _ = writeln!(table, "{}", format!("  {left:left_width$}  |  {right}").trim_end());
    };
    row(&titles[0], &titles[1]);
    row(&"-".repeat(left_width), &"-".repeat(right_width));
    for (left, right) in left.iter().zip(&right) {
        row(left, right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{seeded, side_by_side};

    #[test]
    fn domains_are_hidden_but_for_their_ends() {
        let emails: Vec<String> = seeded().iter().map(|customer| customer.hidden().email).collect();
        assert_eq!(emails, ["ada@*******.com", "grace@****.*******.org", "edsger@*******.nl"]);
    }

    #[test]
    fn answers_stand_side_by_side() {
        let whole = &seeded()[..1];
        let hidden = [whole[0].hidden()];
        assert_eq!(
            side_by_side("http://a/b", "p", whole, &hidden),
            "\nThe same component, unchanged, asked for http://a/b\n\n  \
               as deployed                            |  with the policy p\n  \
               -------------------------------------  |  -------------------------------------\n   \
               1  Ada Lovelace      ada@example.com  |   1  Ada Lovelace      ada@*******.com\n"
        );
    }
}
