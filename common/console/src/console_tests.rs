use super::*;
use crate::{Align, Exit};
use std::sync::Arc;

/// A stream whose content can be looked at while the console holds it.
#[derive(Clone, Default)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// The error of every write.
    fault: Option<io::ErrorKind>,
    /// Writes that were tried.
    writes: Arc<Mutex<usize>>,
}

impl Stream {
    fn faulty(fault: io::ErrorKind) -> Self {
        Self {
            fault: Some(fault),
            ..Self::default()
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.writes.lock().unwrap() += 1;
        match self.fault {
            Some(fault) => Err(fault.into()),
            None => self.bytes.lock().unwrap().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const PIPE: Terminals = Terminals {
    input: false,
    output: false,
    diagnostics: false,
    plain: false,
};
const TERMINAL: Terminals = Terminals {
    input: false,
    output: true,
    diagnostics: false,
    plain: false,
};

fn console(json: bool, color: ColorChoice, terminals: Terminals) -> (Console, Stream, Stream) {
    let (output, diagnostics) = (Stream::default(), Stream::default());
    let options = GlobalOptions { json, color };
    let console = Console::over(
        "site",
        &options,
        terminals,
        Box::new(output.clone()),
        Box::new(diagnostics.clone()),
    );
    (console, output, diagnostics)
}

fn quota_exhausted() -> Failure {
    Failure::new(
        Exit::Negative,
        "QUOTA-EXHAUSTED",
        "entitlement th200-2027q1 has no unit of TH-200 left: 5000 of 5000 spent",
    )
    .hint("2 reservations are unresolved; ask HQ for an amendment or run `site status`")
}

#[test]
fn a_failure_is_shown_in_the_documented_form() {
    let (console, output, diagnostics) = console(false, ColorChoice::Auto, PIPE);
    console.report(&quota_exhausted());
    console.report(
        &Failure::new(Exit::Environment, "PIN-INCORRECT", "wrong PIN").cause("CKR_PIN_INCORRECT"),
    );
    let expected = "\
site: error[QUOTA-EXHAUSTED]: entitlement th200-2027q1 has no unit of TH-200 left: 5000 of 5000 spent
site: hint: 2 reservations are unresolved; ask HQ for an amendment or run `site status`
site: error[PIN-INCORRECT]: wrong PIN
site: cause: CKR_PIN_INCORRECT
";
    assert_eq!(diagnostics.text(), expected);
    assert_eq!(output.text(), "");
}

#[test]
fn a_failure_under_json_is_one_line_with_every_member() {
    let (console, output, diagnostics) = console(true, ColorChoice::Always, PIPE);
    console.report(&quota_exhausted());
    let expected: serde_json::Value = serde_json::json!({ "error": {
        "code": "QUOTA-EXHAUSTED",
        "message": "entitlement th200-2027q1 has no unit of TH-200 left: 5000 of 5000 spent",
        "cause": null,
        "hint": "2 reservations are unresolved; ask HQ for an amendment or run `site status`",
        "exit_code": 1,
    }});
    let text = diagnostics.text();
    assert_eq!(text.lines().count(), 1);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&text).unwrap(),
        expected
    );
    assert_eq!(output.text(), "");
}

#[test]
fn warnings_and_notes_keep_standard_error_json_under_json() {
    let (console, _, diagnostics) = console(true, ColorChoice::Auto, PIPE);
    console.warn("a \"foreign\" file\nwas ignored");
    console.note("x");
    let expected = concat!(
        r#"{"warning":{"message":"a \"foreign\" file\nwas ignored"}}"#,
        "\n",
        r#"{"note":{"message":"x"}}"#,
        "\n"
    );
    assert_eq!(diagnostics.text(), expected);
}

#[test]
fn warnings_and_notes_are_told_apart_by_words() {
    let (console, _, diagnostics) = console(false, ColorChoice::Auto, PIPE);
    console.warn("the credit ends tomorrow");
    console.note("export an audit bundle");
    assert_eq!(
        diagnostics.text(),
        "site: warning: the credit ends tomorrow\nsite: note: export an audit bundle\n"
    );
}

#[test]
fn a_warning_with_a_code_shows_it_to_people_and_scripts() {
    let (console, _, diagnostics) = self::console(false, ColorChoice::Auto, PIPE);
    console.warn_coded("MEDIA-LINK", "a link was not followed");
    assert_eq!(
        diagnostics.text(),
        "site: warning[MEDIA-LINK]: a link was not followed\n"
    );
    let (console, _, diagnostics) = self::console(true, ColorChoice::Auto, PIPE);
    console.warn_coded("MEDIA-LINK", "a link was not followed");
    assert_eq!(
        diagnostics.text(),
        "{\"warning\":{\"code\":\"MEDIA-LINK\",\"message\":\"a link was not followed\"}}\n"
    );
}

#[test]
fn a_hostile_message_can_neither_forge_lines_nor_steer_the_terminal() {
    let (console, _, diagnostics) = console(false, ColorChoice::Auto, PIPE);
    let name = "x\nsite: note: all is well\u{1b}[1A";
    console.report(
        &Failure::new(Exit::Negative, "BAD", name)
            .cause(name)
            .hint(name),
    );
    let text = diagnostics.text();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn json_is_indented_on_a_terminal_and_one_line_elsewhere() {
    let value = serde_json::json!({ "units": 7 });
    let (on_terminal, output, _) = console(true, ColorChoice::Auto, TERMINAL);
    on_terminal.json(&value).unwrap();
    on_terminal.json_line(&value).unwrap();
    assert_eq!(output.text(), "{\n  \"units\": 7\n}\n{\"units\":7}\n");
    let (piped, output, _) = console(true, ColorChoice::Auto, PIPE);
    piped.json(&value).unwrap();
    piped.json_line(&value).unwrap();
    assert_eq!(output.text(), "{\"units\":7}\n{\"units\":7}\n");
}

#[test]
fn colour_follows_choice_terminal_and_environment() {
    let plain = Terminals {
        plain: true,
        ..TERMINAL
    };
    for (json, color, terminals, colored) in [
        (false, ColorChoice::Auto, TERMINAL, true),
        (false, ColorChoice::Auto, PIPE, false),
        (false, ColorChoice::Auto, plain, false),
        (false, ColorChoice::Always, PIPE, true),
        (false, ColorChoice::Always, plain, true),
        (false, ColorChoice::Never, TERMINAL, false),
        (true, ColorChoice::Always, TERMINAL, false),
    ] {
        let (console, _, _) = console(json, color, terminals);
        let expected = if colored {
            "\u{1b}[32mok\u{1b}[0m"
        } else {
            "ok"
        };
        assert_eq!(
            console.styled(Style::Good, "ok"),
            expected,
            "{json} {color:?} {terminals:?}"
        );
    }
}

#[test]
fn a_styled_text_cannot_carry_a_sequence_of_its_own() {
    let (console, output, _) = console(false, ColorChoice::Always, PIPE);
    let styled = console.styled(Style::Bad, "\u{1b}[32mgood");
    console.line(&styled);
    assert_eq!(output.text(), "\u{1b}[31m\\u{1b}[32mgood\u{1b}[0m\n");
}

#[test]
fn a_closed_pipe_ends_the_output_and_is_no_error() {
    let output = Stream::faulty(io::ErrorKind::BrokenPipe);
    let options = GlobalOptions::default();
    let sink = Box::new(Stream::default());
    let console = Console::over("site", &options, PIPE, Box::new(output.clone()), sink);
    console.line("one");
    console.json(&1).unwrap();
    console.json_line(&2).unwrap();
    assert!(console.take_output_error().is_none());
    assert_eq!(
        *output.writes.lock().unwrap(),
        1,
        "nothing is written after the end"
    );
}

#[test]
fn a_full_disk_under_standard_output_is_noticed() {
    let options = GlobalOptions::default();
    let faulty = || Box::new(Stream::faulty(io::ErrorKind::StorageFull));
    let console = Console::over(
        "site",
        &options,
        PIPE,
        faulty(),
        Box::new(Stream::default()),
    );
    assert_eq!(
        console.json(&1).unwrap_err().kind(),
        io::ErrorKind::StorageFull
    );
    let console = Console::over(
        "site",
        &options,
        PIPE,
        faulty(),
        Box::new(Stream::default()),
    );
    let mut table = Table::new([("a", Align::Left)]);
    table.row(["1"]);
    console.table(&table);
    let error = console.take_output_error().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(console.take_output_error().is_none(), "told once");
}

#[test]
fn lines_of_several_threads_do_not_mix() {
    let (console, output, _) = console(false, ColorChoice::Auto, PIPE);
    let line = "x".repeat(1_000);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| console.line(&line)));
        }
    });
    let text = output.text();
    assert_eq!(text.lines().count(), 200);
    assert!(text.lines().all(|written| written == line));
}

#[test]
fn a_given_identifier_must_be_the_very_one() {
    let (console, _, _) = console(false, ColorChoice::Auto, PIPE);
    assert_eq!(
        console.confirm_identifier("revoke site berlin", "berlin", Some("berlin")),
        Ok(())
    );
    for wrong in ["Berlin", "berlin ", "berlin2", "", "yes"] {
        let failure = console
            .confirm_identifier("revoke site berlin", "berlin", Some(wrong))
            .unwrap_err();
        assert_eq!(failure.code, "CONFIRMATION-MISMATCH");
        assert_eq!(failure.exit, Exit::Environment);
        assert!(failure.hint.is_some());
    }
}

#[test]
fn data_is_written_as_it_is() {
    let (console, output, diagnostics) = console(false, ColorChoice::Never, PIPE);
    console.write_data(b"a,b\r\n").unwrap();
    assert_eq!(output.text(), "a,b\r\n");
    assert_eq!(diagnostics.text(), "");
}

#[test]
fn what_was_said_and_what_was_warned_of_is_remembered_once_that_is_wanted() {
    let (console, _, _) = console(false, ColorChoice::Never, PIPE);
    console.line("before");
    console.remember();
    console.line("done");
    console.warn_coded("DISK-OLD", "the disk is old");
    console.note("nothing else");
    assert_eq!(
        console.remembered(),
        "done\nsite: warning[DISK-OLD]: the disk is old\nsite: note: nothing else\n"
    );
}
