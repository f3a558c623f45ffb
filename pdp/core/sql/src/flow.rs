//! `SHOW … ->> SELECT … FROM $1`: statements in a row, each of which may read what those before it gave.
//!
//! It is one statement with one result, that of its last step; what every step touches and reads is its own.

use std::sync::Arc;

use icegate_pdp_model::{Level, SessionContext, Verb};
use sqlparser::ast::Statement;

use crate::{
    analyze::{AnalyzeError, Limits, Purpose, Reading, understood, unknown},
    gate::{self, Piece, TokenKind},
    heads,
    parse::{self, Places, Unparsed},
    reader::{Output, Read, Reader, Request, Role, World, stop},
    reword::{self, Reworded},
    scope::Ctes,
    statement::Draft,
};

/// One step, in words the parser knows.
pub(crate) struct Step {
    text: String,
    start: usize,
    reworded: Option<Reworded>,
}

/// The steps of a statement; `None` when it is not made of steps.
pub(crate) fn steps(piece: &Piece<'_>) -> Result<Option<Vec<Step>>, String> {
    let tokens = &piece.tokens;
    let sign = |at: usize| {
        let arrow = tokens.get(at..at + 3)?;
        let start = arrow.first()?.start;
        let together = arrow.iter().zip(["-", ">", ">"]).enumerate().all(|(place, (token, sign))| {
            token.kind == TokenKind::Symbol && token.text == sign && token.start == start + place
        });
        together.then_some(start)
    };
    let arrows: Vec<usize> = (0..tokens.len()).filter_map(sign).collect();
    if arrows.is_empty() {
        return Ok(None);
    }
    // The names by which a step reads another must not be anyone's else.
    let taken = |text: &str| text.strip_prefix('_').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    let names = tokens.iter().filter(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted));
    if names.map(|token| token.text.trim_matches('"')).any(taken) {
        return Err("a name like `_1` in a statement with `->>` is not understood".to_owned());
    }
    let ends = arrows.iter().copied().chain([piece.start + piece.text.len()]);
    let starts = std::iter::once(piece.start).chain(arrows.iter().map(|arrow| arrow + 3));
    let mut steps = Vec::with_capacity(arrows.len() + 1);
    for (before, (start, end)) in starts.zip(ends).enumerate() {
        let text = piece.text.get(start - piece.start..end - piece.start).unwrap_or_default();
        steps.push(step(text, start, before)?);
    }
    Ok(Some(steps))
}

fn step(text: &str, start: usize, before: usize) -> Result<Step, String> {
    let again = relations(text, before)?;
    let pieces = gate::split(&again)?;
    let [piece] = pieces.as_slice() else { return Err("a step between `->>` is empty or not one statement".into()) };
    let reworded = reword::reword(piece);
    let text = reworded.as_ref().map_or_else(|| again.clone(), |reworded| reworded.text.clone());
    Ok(Step { text, start, reworded })
}

/// `FROM $1` as `FROM _1`, for as many steps as there are before this one.
fn relations(text: &str, steps: usize) -> Result<String, String> {
    let tokens = gate::tokens(text)?;
    let mut again = text.to_owned();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| tokens.get(before));
        let relation = before.is_some_and(|before| {
            before.kind == TokenKind::Word && ["FROM", "JOIN"].iter().any(|word| before.text.eq_ignore_ascii_case(word))
        });
        let number = token.text.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        if relation && let Some(number) = number {
            if !(1..=steps).contains(&number) {
                return Err(format!("`${number}` reads a step that is not before it"));
            }
            again.replace_range(token.start..=token.start, "_");
        }
    }
    Ok(again)
}

/// Reads every step.
pub(crate) fn read<'a>(
    purpose: Purpose,
    steps: &[Step],
    whole: &Piece<'_>,
    session: &SessionContext,
    world: World<'a>,
    request: &Request,
    limits: &Limits,
) -> Result<Reading<'a>, AnalyzeError> {
    let bytes = whole.text.len();
    let mut pieces = Vec::with_capacity(steps.len());
    for step in steps {
        match gate::split(&step.text).ok().and_then(|mut pieces| pieces.pop()) {
            Some(piece) => pieces.push(gate::moved(piece, step.start)),
            None => return Ok(unknown("a step between `->>` is empty".into(), bytes)),
        }
    }
    let mut parsed = Vec::with_capacity(steps.len());
    for piece in &pieces {
        match parse::parse(piece, limits.depth_max) {
            Ok(statement) => parsed.push(Ok(statement)),
            Err(Unparsed::TooDeep) => return Err(AnalyzeError::TooDeep { depth_max: limits.depth_max }),
            Err(Unparsed::Because(why)) => parsed.push(Err(why)),
        }
    }
    let places: Vec<Places<'_>> = pieces.iter().map(Places::of).collect();
    let Some(first) = places.first() else { return Ok(unknown("there is no step between `->>`".into(), bytes)) };
    let mut reader = Reader::new(world, session.clone(), request, limits.depth_max, first);
    let mut outputs: Vec<(Arc<Output>, bool)> = Vec::with_capacity(steps.len());
    let mut last = None;
    let mut level = Level::Understood;
    for (((step, piece), parsed), places) in steps.iter().zip(&pieces).zip(&parsed).zip(&places) {
        reader.places = Some(places);
        reader.reworded = step.reworded.as_ref();
        let mut ctes = Ctes::default();
        reader.shown.clear();
        // What the steps so far read was for this one.
        for site in &mut reader.sites {
            site.role = Role::Step;
        }
        for ((output, shown), before) in outputs.iter().rev().zip(1..) {
            let name = format!("_{before}");
            if *shown {
                reader.shown.insert(name.clone());
            }
            ctes.push(name, Arc::clone(output));
        }
        match reader.step(parsed, piece, &ctes) {
            Ok((draft, known)) => {
                level = level.max(known);
                let output = draft
                    .output
                    .clone()
                    .map_or_else(|| (Output { open: true, ..Output::default() }, true), |output| (output, false));
                outputs.push((Arc::new(output.0), output.1));
                last = Some((draft, parsed));
            }
            Err(why) => return Ok(unknown(why.0, bytes)),
        }
    }
    let none = Statement::Commit { chain: false, end: false, modifier: None };
    let Some((draft, parsed)) = last else { return Ok(unknown("there is no step between `->>`".into(), bytes)) };
    let ((mut analysis, plan), _) = understood(purpose, reader, draft, parsed.as_ref().unwrap_or(&none), bytes);
    if level != Level::Understood {
        analysis.level = level;
        analysis.why = Some("told by the head of a step alone".into());
    }
    Ok((analysis, plan))
}

impl Reader<'_, '_> {
    /// One step: a query, or a statement that only shows.
    fn step(&mut self, parsed: &Result<Statement, String>, piece: &Piece<'_>, ctes: &Ctes) -> Read<(Draft, Level)> {
        match parsed {
            Ok(Statement::Query(query)) => {
                let output = self.query(query, None, ctes)?;
                Ok((Draft { output: Some(output), ..Draft::verb(Verb::Select) }, Level::Understood))
            }
            Ok(statement) => {
                let draft = self.statement(statement)?;
                shows(draft.kind.verb)?;
                Ok((draft, Level::Understood))
            }
            Err(why) => {
                let Ok(head) = heads::classify(piece, self) else { return stop(why.clone()) };
                shows(head.kind.verb)?;
                Ok((Draft::of(head.kind), Level::Classified))
            }
        }
    }
}

fn shows(verb: Verb) -> Read<()> {
    match verb {
        Verb::Show | Verb::Describe => Ok(()),
        _ => stop(format!("{verb} between `->>` is not understood; only queries, SHOW and DESCRIBE are")),
    }
}
