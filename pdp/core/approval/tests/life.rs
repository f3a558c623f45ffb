//! Every step of an approval's life, and the laws no sequence of steps breaks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use icegate_pdp_approval::{Approval, ApprovalError, COMMENT_BYTES_MAX, NewApproval, State};
use icegate_pdp_model::{Agent, Assurance, Code, Principal, SessionContext, Timestamp};
use proptest::prelude::*;

const STATEMENT: &str = "5f";
const APPROVE_BY: Timestamp = Timestamp(900_000);

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn person(name: &str) -> Principal {
    Principal {
        id: format!("corp/{name}"),
        issuer: "https://id.corp".into(),
        subject: name.into(),
        groups: BTreeSet::new(),
        agent: None,
        attributes: std::collections::BTreeMap::new(),
    }
}

fn request(groups: &[&str]) -> Approval {
    let new = NewApproval {
        id: "a1".into(),
        requester: person("ana"),
        session_id: "s1".into(),
        decision_id: "d1".into(),
        sql: "delete from t where id = 1".into(),
        context: SessionContext::default(),
        groups: set(groups),
        reasons: vec![],
        statement_sha256: STATEMENT.into(),
        approve_within_seconds: 900,
        execute_within_seconds: 600,
    };
    Approval::request(new, Timestamp(0)).unwrap()
}

fn approved() -> Approval {
    request(&["a"]).approve(&person("bob"), &set(&["a"]), "", Timestamp(10)).unwrap()
}

#[test]
fn it_needs_a_group() {
    let new = request(&["a"]);
    let new = NewApproval {
        id: new.id,
        requester: new.requester,
        session_id: new.session_id,
        decision_id: new.decision_id,
        sql: new.sql,
        context: new.context,
        groups: set(&[]),
        reasons: vec![],
        statement_sha256: new.statement_sha256,
        approve_within_seconds: 1,
        execute_within_seconds: 1,
    };
    assert_eq!(Approval::request(new, Timestamp(0)).unwrap_err(), ApprovalError::NoGroups);
}

#[test]
fn one_group_one_person_one_run() {
    let pending = request(&["a"]);
    assert_eq!((pending.state, pending.version, pending.approve_by), (State::Pending, 1, APPROVE_BY));
    let approved = approved();
    assert_eq!((approved.state, approved.version), (State::Approved, 2));
    assert_eq!(approved.execute_by, Some(Timestamp(600_010)));
    let consumed = approved.consume(STATEMENT, Timestamp(600_009)).unwrap();
    assert_eq!((consumed.state, consumed.version), (State::Consumed, 3));
    assert_eq!(
        consumed.consume(STATEMENT, Timestamp(600_009)).unwrap_err(),
        ApprovalError::Ended { state: State::Consumed }
    );
}

#[test]
fn who_may_not_vote_is_told_why() {
    let agent =
        Principal { agent: Some(Agent { id: "copilot".into(), assurance: Assurance::Attested }), ..person("bob") };
    let cases = [
        (
            "requester",
            person("ana"),
            set(&["a"]),
            Code::PolicyNoPermit,
            "Nobody approves or rejects their own request; ask another member of `a` or `b`.",
        ),
        (
            "same identity, other id",
            Principal { id: "corp/other".into(), ..person("ana") },
            set(&["a"]),
            Code::PolicyNoPermit,
            "Nobody approves or rejects their own request; ask another member of `a` or `b`.",
        ),
        (
            "same id, other identity",
            Principal { subject: "x".into(), ..person("ana") },
            set(&["a"]),
            Code::PolicyNoPermit,
            "Nobody approves or rejects their own request; ask another member of `a` or `b`.",
        ),
        (
            "agent",
            agent,
            set(&["a"]),
            Code::PolicyNoPermit,
            "An agent cannot approve or reject; sign in yourself, without the agent, and repeat it.",
        ),
        (
            "no group",
            person("bob"),
            set(&[]),
            Code::PolicyNoPermit,
            "You may not vote for this request; ask a member of `a` or `b`.",
        ),
        (
            "other group",
            person("bob"),
            set(&["c"]),
            Code::PolicyNoPermit,
            "You may not vote for this request; ask a member of `a` or `b`.",
        ),
    ];
    for (what, who, entitled, code, sentence) in cases {
        let request = request(&["a", "b"]);
        for refused in [
            request.approve(&who, &entitled, "", Timestamp(1)).unwrap_err(),
            request.reject(&who, &entitled, "", Timestamp(1)).unwrap_err(),
        ] {
            let reason = refused.reason();
            assert_eq!((reason.code, reason.message.as_str()), (code, sentence), "{what}");
        }
    }
}

#[test]
fn each_group_needs_a_person_of_its_own() {
    let both = set(&["a", "b"]);
    let one = request(&["a", "b"]).approve(&person("bob"), &both, "", Timestamp(1)).unwrap();
    assert_eq!(one.state, State::Pending);
    assert_eq!(one.approve(&person("bob"), &both, "", Timestamp(2)).unwrap_err(), ApprovalError::AlreadyVoted);
    assert_eq!(one.reject(&person("bob"), &both, "", Timestamp(2)).unwrap_err(), ApprovalError::AlreadyVoted);
    let two = one.approve(&person("carol"), &both, "", Timestamp(2)).unwrap();
    assert_eq!((two.state, two.missing().len()), (State::Approved, 0));
}

#[test]
fn a_person_of_two_groups_makes_room_for_a_person_of_one() {
    let one = request(&["a", "b"]).approve(&person("bob"), &set(&["a", "b"]), "", Timestamp(1)).unwrap();
    assert_eq!(one.votes[0].group, "a");
    let two = one.approve(&person("carol"), &set(&["a"]), "", Timestamp(2)).unwrap();
    assert_eq!(two.state, State::Approved);
    assert_eq!((two.votes[0].group.as_str(), two.votes[1].group.as_str()), ("b", "a"));
}

#[test]
fn a_second_person_of_a_full_group_is_told_who_is_missing() {
    let one = request(&["a", "b"]).approve(&person("bob"), &set(&["a"]), "", Timestamp(1)).unwrap();
    let refused = one.approve(&person("carol"), &set(&["a"]), "", Timestamp(2)).unwrap_err();
    assert_eq!(refused, ApprovalError::GroupFilled { missing: set(&["b"]) });
    assert!(one.reject(&person("carol"), &set(&["a"]), "", Timestamp(2)).is_ok(), "no can still be said");
}

#[test]
fn times_count_at_their_moment() {
    let bob = person("bob");
    let (pending, entitled) = (request(&["a"]), set(&["a"]));
    assert!(pending.approve(&bob, &entitled, "", Timestamp(APPROVE_BY.0 - 1)).is_ok());
    assert_eq!(pending.approve(&bob, &entitled, "", APPROVE_BY).unwrap_err(), ApprovalError::Expired);
    assert_eq!(pending.reject(&bob, &entitled, "", APPROVE_BY).unwrap_err(), ApprovalError::Expired);
    assert_eq!(pending.expire(Timestamp(APPROVE_BY.0 - 1)).unwrap_err(), ApprovalError::NotExpired);
    assert_eq!(pending.expire(APPROVE_BY).unwrap().state, State::Expired);
    assert_eq!(pending.cancel(APPROVE_BY).unwrap_err(), ApprovalError::Expired);

    let approved = approved();
    let end = approved.execute_by.unwrap();
    assert_eq!(approved.state_at(APPROVE_BY).as_str(), "expired", "600 s after 10 ms is before 900 s");
    assert_eq!(approved.consume(STATEMENT, end).unwrap_err(), ApprovalError::Expired);
    assert_eq!(approved.consume(STATEMENT, end).unwrap_err().code(), Code::ApprovalExpired);
    assert_eq!(approved.expire(end).unwrap().state, State::Expired);
}

#[test]
fn only_what_was_approved_runs() {
    let refused = approved().consume("60", Timestamp(11)).unwrap_err();
    assert_eq!((refused.code(), &refused), (Code::ApprovalUnusable, &ApprovalError::OtherStatement));
    let refused = request(&["a"]).consume(STATEMENT, Timestamp(11)).unwrap_err();
    assert_eq!(refused, ApprovalError::NotApproved { missing: set(&["a"]) });
}

#[test]
fn a_no_is_final_and_kept() {
    let rejected = request(&["a", "b"]).reject(&person("bob"), &set(&["b"]), "too broad", Timestamp(1)).unwrap();
    assert_eq!((rejected.state, rejected.votes[0].approve), (State::Rejected, false));
    assert_eq!((rejected.votes[0].group.as_str(), rejected.votes[0].comment.as_str()), ("b", "too broad"));
    assert_eq!(rejected.consume(STATEMENT, Timestamp(2)).unwrap_err().code(), Code::ApprovalRejected);
    let sentence = rejected.cancel(Timestamp(2)).unwrap_err().reason().message;
    assert_eq!(sentence, "The request is rejected already; send the statement again for a new one.");
}

#[test]
fn comments_have_a_limit() {
    let long = "x".repeat(COMMENT_BYTES_MAX + 1);
    let refused = request(&["a"]).approve(&person("bob"), &set(&["a"]), &long, Timestamp(1)).unwrap_err();
    assert_eq!(refused, ApprovalError::CommentTooLong);
}

#[test]
fn it_reads_back_as_written() {
    let approved = approved();
    let text = serde_json::to_string(&approved).unwrap();
    assert_eq!(serde_json::from_str::<Approval>(&text).unwrap(), approved);
}

#[derive(Debug, Clone)]
enum Step {
    Approve { who: usize, entitled: BTreeSet<String>, agent: bool },
    Reject { who: usize, entitled: BTreeSet<String> },
    Cancel,
    Expire,
    Consume { right: bool },
}

fn steps() -> impl Strategy<Value = Vec<(Step, i64)>> {
    let entitled = || prop::sample::subsequence(vec!["a", "b", "c", "z"], 0..=4).prop_map(|names| set(&names));
    let step = prop_oneof![
        6 => (0usize..5, entitled(), prop::bool::weighted(0.1)).prop_map(|(who, entitled, agent)| Step::Approve { who, entitled, agent }),
        1 => (0usize..5, entitled()).prop_map(|(who, entitled)| Step::Reject { who, entitled }),
        1 => Just(Step::Cancel),
        1 => Just(Step::Expire),
        3 => any::<bool>().prop_map(|right| Step::Consume { right }),
    ];
    prop::collection::vec((step, 0i64..200_000), 0..24)
}

proptest! {
    #[test]
    fn no_sequence_of_steps_gets_around_the_rules(steps in steps(), count in 1usize..=3) {
        let groups = &["a", "b", "c"][..count];
        let people = ["ana", "bob", "carol", "dan", "eve"];
        let mut approval = request(groups);
        let (mut now, mut consumed) = (0, 0);
        for (step, later) in steps {
            now += later;
            let at = Timestamp(now);
            let before = approval.clone();
            let next = match &step {
                Step::Approve { who, entitled, agent } => {
                    let mut who = person(people[*who]);
                    who.agent = agent.then(|| Agent { id: "x".into(), assurance: Assurance::Attested });
                    approval.approve(&who, entitled, "", at)
                }
                Step::Reject { who, entitled } => approval.reject(&person(people[*who]), entitled, "", at),
                Step::Cancel => approval.cancel(at),
                Step::Expire => approval.expire(at),
                Step::Consume { right } => approval.consume(if *right { STATEMENT } else { "60" }, at),
            };
            let Ok(next) = next else { continue };
            prop_assert!(!before.state.is_final(), "final states stay final");
            prop_assert_eq!(next.version, before.version + 1);
            if next.state == State::Consumed {
                consumed += 1;
                prop_assert_eq!(before.state, State::Approved);
                prop_assert!(at < before.execute_by.unwrap());
            }
            if next.state == State::Approved {
                prop_assert!(at < next.approve_by);
                // A distinct person for each group, none of them the requester or an agent, each entitled for theirs.
                let voted: BTreeSet<&String> = next.votes.iter().map(|vote| &vote.group).collect();
                let voters: BTreeSet<&String> = next.votes.iter().map(|vote| &vote.approver.id).collect();
                prop_assert_eq!(voted, next.groups.iter().collect());
                prop_assert_eq!(voters.len(), next.groups.len());
                for vote in &next.votes {
                    prop_assert!(vote.approve && vote.entitled.contains(&vote.group));
                    prop_assert!(vote.approver.id != "corp/ana" && vote.approver.agent.is_none());
                }
            }
            approval = next;
        }
        prop_assert!(consumed <= 1);
    }
}
