//! What a device identifier must look like: a regular expression that matches whole or not at all, in linear time.
//!
//! A vault asks this at every request and headquarters asks it again years later, so nothing that could drift between
//! two builds takes part: bytes instead of characters, no Unicode tables, no look-around, no backtracking.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use mintmark_protocol::device_ids::DeviceIds;
use mintmark_protocol::identifier::DEVICE_ID_BYTES_MAX;
use regex_automata::nfa::thompson::pikevm::{Cache, PikeVM};
use regex_automata::nfa::thompson::{Compiler, NFA, WhichCaptures};
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input};
use regex_syntax::ast::{self, Ast};
use regex_syntax::hir::translate::TranslatorBuilder;
use regex_syntax::hir::{Hir, HirKind, Look};

use super::language::Language;
use super::listed::{Counting, Matched};

/// The longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 256;
/// The largest compiled pattern, in bytes of its automaton.
const AUTOMATON_BYTES_MAX: usize = 64 << 10;
/// How deep groups may nest in a pattern.
const NESTING_MAX: u32 = 16;

type CachePool = Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync>>;

/// A compiled pattern. It is cheap to clone and to share between threads.
///
/// The syntax is that of the Rust `regex` crate without Unicode and without look-around: literals, classes, groups,
/// alternation, repetition, and `(?i)`. Both ends are anchored; a leading `^` and a closing `$` say the same again.
#[derive(Clone)]
pub struct DeviceIdPattern {
    text: Arc<str>,
    engine: Arc<PikeVM>,
    /// Scratch space of the engine: one for each thread that is matching right now.
    caches: Arc<CachePool>,
    /// Counted when it is first asked for.
    language: Arc<OnceLock<Language>>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl DeviceIdPattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole of `device_id` matches. Time is linear in its length, which is bounded: what is longer than
    /// any device identifier (64 bytes) does not match.
    pub fn matches(&self, device_id: &str) -> bool {
        if device_id.len() > DEVICE_ID_BYTES_MAX {
            return false;
        }
        let input = Input::new(device_id).anchored(Anchored::Yes);
        self.engine.is_match(&mut self.caches.get(), input)
    }

    /// Which device identifiers match, as far as it can be counted. The first call is slow beside
    /// [`Self::matches`]: it is for people who review a policy.
    pub fn language(&self) -> Language {
        let count = || Language::of(self.engine.get_nfa());
        self.language.get_or_init(count).clone()
    }

    /// How many identifiers of a list match; none if the pattern is too entangled to count them. As slow as
    /// [`Self::language`].
    pub(super) fn matched(&self, listed: &DeviceIds) -> Option<Matched> {
        Counting::new(self.engine.get_nfa()).matched(listed)
    }
}

impl FromStr for DeviceIdPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let wrong = |reason: &str| Err(PatternError(reason.to_owned()));
        if text.is_empty() {
            return wrong("it is empty, so it matches no device identifier");
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError(format!(
                "it has {} bytes, and at most {PATTERN_BYTES_MAX} are read",
                text.len()
            )));
        }
        if let Some(found) = text.chars().find(|c| !matches!(c, ' '..='~')) {
            let found = found.escape_default();
            return Err(PatternError(format!("`{found}` is not printable ASCII")));
        }
        let syntax = ast::parse::ParserBuilder::new()
            .nest_limit(NESTING_MAX)
            .build()
            .parse(text);
        let syntax = syntax.map_err(|error| PatternError(error.kind().to_string()))?;
        ast::visit(&syntax, WithoutUnicode)?;
        let mut translator = TranslatorBuilder::new();
        let parsed = translator
            .unicode(false)
            .utf8(false)
            .build()
            .translate(text, &syntax);
        let parsed = parsed.map_err(|error| PatternError(error.kind().to_string()))?;
        let anchored = anchored(parsed)?;
        let config = NFA::config()
            .utf8(false)
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(AUTOMATON_BYTES_MAX));
        let nfa = Compiler::new().configure(config).build_from_hir(&anchored);
        let engine = nfa.and_then(PikeVM::new_from_nfa);
        let Ok(engine) = engine.map(Arc::new) else {
            return wrong("it is too large: its repetitions multiply beyond what is compiled");
        };
        let caches: Box<dyn Fn() -> Cache + Send + Sync> = {
            let engine = Arc::clone(&engine);
            Box::new(move || engine.create_cache())
        };
        Ok(Self {
            text: text.into(),
            engine,
            caches: Arc::new(Pool::new(caches)),
            language: Arc::default(),
        })
    }
}

/// The expression with an end that is the end of the text. A `^` in front and a `$` behind are dropped: the search is
/// anchored anyway.
///
/// The wrapping happens on the parsed expression, where `a|b` or an unbalanced parenthesis cannot escape from it.
fn anchored(parsed: Hir) -> Result<Hir, PatternError> {
    let mut parts = match parsed.into_kind() {
        HirKind::Concat(parts) => parts,
        HirKind::Empty => Vec::new(),
        HirKind::Literal(literal) => vec![Hir::literal(literal.0)],
        HirKind::Class(class) => vec![Hir::class(class)],
        HirKind::Look(look) => vec![Hir::look(look)],
        HirKind::Repetition(repetition) => vec![Hir::repetition(repetition)],
        HirKind::Capture(capture) => vec![Hir::capture(capture)],
        HirKind::Alternation(branches) => vec![Hir::alternation(branches)],
    };
    let is = |part: Option<&Hir>, look| matches!(part.map(Hir::kind), Some(HirKind::Look(found)) if *found == look);
    if is(parts.first(), Look::Start) {
        parts.remove(0);
    }
    if is(parts.last(), Look::End) {
        parts.pop();
    }
    let mut open: Vec<&Hir> = parts.iter().collect();
    while let Some(part) = open.pop() {
        match part.kind() {
            HirKind::Look(_) => {
                return Err(PatternError(
                    "anchors and word boundaries have no place inside: the pattern always matches the whole identifier"
                        .to_owned(),
                ));
            }
            _ => open.extend(part.kind().subs()),
        }
    }
    parts.push(Hir::look(Look::End));
    Ok(Hir::concat(parts))
}

/// Refuses the flag `u`: whether it works depends on tables that another crate of the build may switch on or off.
struct WithoutUnicode;

impl ast::Visitor for WithoutUnicode {
    type Output = ();
    type Err = PatternError;

    fn finish(self) -> Result<(), PatternError> {
        Ok(())
    }

    fn visit_pre(&mut self, part: &Ast) -> Result<(), PatternError> {
        let flags = match part {
            Ast::Flags(set) => Some(&set.flags),
            Ast::Group(group) => group.flags(),
            _ => None,
        };
        if flags.is_some_and(|flags| flags.flag_state(ast::Flag::Unicode).is_some()) {
            return Err(PatternError(
                "the flag `u` is not allowed: patterns are ASCII".to_owned(),
            ));
        }
        Ok(())
    }
}

impl fmt::Display for DeviceIdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DeviceIdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceIdPattern({:?})", self.text)
    }
}

impl PartialEq for DeviceIdPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for DeviceIdPattern {}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> DeviceIdPattern {
        text.parse().unwrap()
    }

    fn refusal(text: &str) -> String {
        text.parse::<DeviceIdPattern>().unwrap_err().to_string()
    }

    #[test]
    fn a_pattern_matches_whole_or_not_at_all() {
        let th200 = pattern("TH200-[0-9]{8}");
        assert!(th200.matches("TH200-00000001"));
        for other in [
            "",
            "TH200-0000000",
            "TH200-000000001",
            "xTH200-00000001",
            "TH200-00000001\n",
        ] {
            assert!(!th200.matches(other), "{other:?}");
        }
        // A preference for the first branch must not hide a longer one.
        assert!(pattern("a|ab").matches("ab"));
        assert!(!pattern("a|b").matches("ab"));
        assert!(!pattern("a|b").matches("xb"));
    }

    #[test]
    fn anchors_written_out_change_nothing() {
        for text in [
            "^TH-[0-9]$",
            "^TH-[0-9]",
            "TH-[0-9]$",
            "TH-[0-9]",
            r"\ATH-[0-9]\z",
        ] {
            assert!(pattern(text).matches("TH-7"), "{text}");
            assert!(!pattern(text).matches("TH-77"), "{text}");
            assert!(!pattern(text).matches("xTH-7"), "{text}");
        }
    }

    #[test]
    fn comments_and_groups_cannot_escape_the_anchors() {
        let pattern = pattern("(?x)a # and no more");
        assert!(pattern.matches("a"));
        assert!(!pattern.matches("ab"));
        assert!(refusal("a)(b").contains("unopened group"));
    }

    #[test]
    fn classes_are_ascii() {
        assert!(pattern(r"\d").matches("7"));
        assert!(!pattern(r"\d").matches("\u{664}"));
        assert!(!pattern(r"\w").matches("\u{e4}"));
        assert!(pattern("(?i)th").matches("tH"));
        assert!(!pattern("(?i)k").matches("\u{212a}"));
        assert!(!pattern("..").matches("\u{e4}\u{e4}"));
    }

    #[test]
    fn unicode_is_refused_however_it_is_asked_for() {
        assert!(refusal("\u{e4}").contains("not printable ASCII"));
        assert!(refusal("a\n").contains("not printable ASCII"));
        for text in [r"\pL", r"(?u)\w", "(?u).", "(?iu)a", "(?u:a)", "(?-u)a"] {
            let error = refusal(text);
            assert!(
                error.contains("flag `u`") || error.contains("Unicode not allowed"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn look_around_inside_a_pattern_is_refused() {
        for text in [r"a\bb", "a^b", "(^a|b)", "a$b", r"\<a"] {
            assert!(refusal(text).contains("no place inside"), "{text}");
        }
        assert!(refusal("(?=a)b").contains("look-around"));
        assert!(refusal(r"(a)\1").contains("backreferences"));
    }

    #[test]
    fn a_pattern_has_a_ceiling_of_length_nesting_and_size() {
        assert!(
            pattern(&"a".repeat(PATTERN_BYTES_MAX))
                .language()
                .example
                .is_none()
        );
        assert!(refusal(&"a".repeat(PATTERN_BYTES_MAX + 1)).contains("257 bytes"));
        assert!(refusal(&format!("{}a{}", "(".repeat(30), ")".repeat(30))).contains("nest"));
        assert!(refusal("((a{1000}){1000}){1000}").contains("too large"));
        assert!(refusal("").contains("empty"));
        assert!(pattern("[A-Za-z0-9 '()+,./:=?-]{1,64}").matches(&"a".repeat(64)));
    }

    #[test]
    fn what_is_longer_than_a_device_identifier_does_not_match() {
        assert!(pattern("a*").matches(&"a".repeat(64)));
        assert!(!pattern("a*").matches(&"a".repeat(65)));
    }

    #[test]
    fn an_exponential_trap_is_as_quick_as_any_other() {
        let trap = pattern("(a*)*(a*)*(a|aa)*b");
        assert!(!trap.matches(&"a".repeat(64)));
        assert!(trap.matches(&format!("{}b", "a".repeat(63))));
    }

    #[test]
    fn threads_share_a_pattern() {
        let pattern = pattern("TH200-[0-9]{8}");
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let pattern = &pattern;
                scope.spawn(move || {
                    for n in 0..200_u32 {
                        assert!(pattern.matches(&format!("TH200-{thread}{n:07}")));
                        assert!(!pattern.matches(&format!("TH200-{thread}{n:06}")));
                    }
                });
            }
        });
    }
}
