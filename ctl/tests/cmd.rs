//! Command lines that need no control plane, as they are typed, with what they print and end with.

#[test]
fn command_lines_do_what_they_say() {
    trycmd::TestCases::new()
        // Help is wrapped at the same column everywhere.
        .env("COLUMNS", "100")
        .case("tests/cmd/*.trycmd");
}
