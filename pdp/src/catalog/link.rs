//! The PEPs that take questions, and the questions that are out.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use icegate_proto::v1;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::state::new_id;

/// Questions on their way to one PEP.
const AHEAD: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Link {
    takers: Mutex<Vec<Taker>>,
    out: Mutex<HashMap<String, Out>>,
    came: Notify,
    number: AtomicU64,
}

#[derive(Debug)]
struct Taker {
    number: u64,
    pep_id: String,
    questions: mpsc::Sender<v1::CatalogQuestion>,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Out {
    pep_id: String,
    question: v1::CatalogQuestion,
    /// The text that answers it is on record.
    begun: bool,
    answer: oneshot::Sender<v1::answer_catalog_question_request::Answer>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No PEP takes questions.
    NoPep,
    /// None came in time.
    Timeout,
    /// The PEP could not, for this reason: Snowflake's code or a word of the contract.
    Failed(String),
}

/// One page of rows.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows_json: String,
    pub(crate) more: bool,
}

impl Link {
    /// A PEP comes; its questions end when the receiver is dropped.
    pub(crate) fn enter(&self, pep_id: &str) -> (u64, mpsc::Receiver<v1::CatalogQuestion>) {
        let (questions, taken) = mpsc::channel(AHEAD);
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.takers().push(Taker { number, pep_id: pep_id.to_owned(), questions });
        self.came.notify_one();
        (number, taken)
    }

    pub(crate) fn leave(&self, number: u64) {
        self.takers().retain(|taker| taker.number != number);
    }

    pub(crate) fn pep_ids(&self) -> Vec<String> {
        self.takers().iter().map(|taker| taker.pep_id.clone()).collect()
    }

    /// Waits until a PEP takes questions.
    pub(crate) async fn connected(&self) {
        while self.takers().is_empty() {
            self.came.notified().await;
        }
    }

    /// Asks one PEP and waits for the answer.
    pub(crate) async fn ask(&self, mut question: v1::CatalogQuestion, longest: Duration) -> Result<Page, Unanswered> {
        let question_id = new_id();
        question.question_id.clone_from(&question_id);
        question.timeout_ms = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
        let (answer, answered) = oneshot::channel();
        self.send(question, answer)?;
        let answer = tokio::time::timeout(longest, answered).await;
        // From here on nothing more is sent for it: `begin` does not know it any more.
        self.out().remove(&question_id);
        match answer {
            Ok(Ok(v1::answer_catalog_question_request::Answer::Rows(v1::CatalogRows { rows_json, more }))) => {
                Ok(Page { rows_json, more })
            }
            Ok(Ok(v1::answer_catalog_question_request::Answer::Failure(failure))) => {
                Err(Unanswered::Failed(word(&failure.code)))
            }
            Ok(Err(_)) | Err(_) => Err(Unanswered::Timeout),
        }
    }

    fn send(
        &self,
        question: v1::CatalogQuestion,
        answer: oneshot::Sender<v1::answer_catalog_question_request::Answer>,
    ) -> Result<(), Unanswered> {
        let takers = self.takers();
        for taker in takers.iter() {
            let Ok(place) = taker.questions.try_reserve() else { continue };
            let out = Out { pep_id: taker.pep_id.clone(), question: question.clone(), begun: false, answer };
            self.out().insert(question.question_id.clone(), out);
            place.send(question);
            return Ok(());
        }
        Err(Unanswered::NoPep)
    }

    /// The question this PEP is about to send a text for; once.
    pub(crate) fn begin(&self, question_id: &str, pep_id: &str) -> Option<v1::CatalogQuestion> {
        let mut out = self.out();
        let out = out.get_mut(question_id).filter(|out| out.pep_id == pep_id && !out.begun)?;
        out.begun = true;
        Some(out.question.clone())
    }

    /// Says whether anybody waits for the answer.
    pub(crate) fn answer(
        &self,
        question_id: &str,
        pep_id: &str,
        answer: v1::answer_catalog_question_request::Answer,
    ) -> bool {
        let mut out = self.out();
        if out.get(question_id).is_none_or(|out| out.pep_id != pep_id) {
            return false;
        }
        out.remove(question_id).is_some_and(|out| out.answer.send(answer).is_ok())
    }

    fn takers(&self) -> std::sync::MutexGuard<'_, Vec<Taker>> {
        self.takers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out(&self) -> std::sync::MutexGuard<'_, HashMap<String, Out>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A word or a code; a part of something else is never told.
fn word(code: &str) -> String {
    let sound = !code.is_empty()
        && code.len() <= 24
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if sound { code.to_owned() } else { "unknown".to_owned() }
}

impl Unanswered {
    /// For a sentence's end.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::NoPep => "no PEP takes questions".to_owned(),
            Self::Timeout => "no answer came in time".to_owned(),
            Self::Failed(code) if code.bytes().all(|byte| byte.is_ascii_digit()) => format!("Snowflake's code {code}"),
            Self::Failed(word) => format!("`{word}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use icegate_proto::v1::{self, answer_catalog_question_request::Answer};

    use super::{Link, Unanswered};

    #[tokio::test]
    async fn a_question_is_for_one_pep_and_is_begun_once() {
        let link = Arc::new(Link::default());
        let longest = Duration::from_secs(5);
        let asked = link.ask(v1::CatalogQuestion::default(), longest).await;
        assert_eq!(asked.unwrap_err(), Unanswered::NoPep);
        let (number, mut questions) = link.enter("pep-1");
        let asking = tokio::spawn({
            let link = Arc::clone(&link);
            async move { link.ask(v1::CatalogQuestion::default(), longest).await }
        });
        let question = questions.recv().await.unwrap();
        assert!(link.begin(&question.question_id, "pep-2").is_none(), "another PEP's");
        assert!(link.begin("made-up", "pep-1").is_none());
        assert!(link.begin(&question.question_id, "pep-1").is_some());
        assert!(link.begin(&question.question_id, "pep-1").is_none(), "twice");
        let rows = || Answer::Rows(v1::CatalogRows { rows_json: "[]".into(), more: false });
        assert!(!link.answer(&question.question_id, "pep-2", rows()));
        assert!(link.answer(&question.question_id, "pep-1", rows()));
        assert!(!link.answer(&question.question_id, "pep-1", rows()), "twice");
        assert_eq!(asking.await.unwrap().unwrap().rows_json, "[]");
        // What nobody waits for any more is not begun.
        let asked = link.ask(v1::CatalogQuestion::default(), Duration::from_millis(10)).await;
        assert_eq!(asked.unwrap_err(), Unanswered::Timeout);
        let late = questions.recv().await.unwrap();
        assert!(link.begin(&late.question_id, "pep-1").is_none());
        link.leave(number);
        assert!(link.pep_ids().is_empty());
    }
}
