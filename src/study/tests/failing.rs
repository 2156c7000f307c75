//! What is called in vain, and until when it answered.

use crate::graph::tests::notation::second;
use crate::recall::Selector;
use crate::study::failing::{Answered, There};
use crate::study::tests::outcome;
use crate::study::{About, Finding};

#[test]
fn what_answered_once_says_until_when() {
    let text = "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a tcp 0.0.0.0:22 listens sshd/1
        a tcp 0.0.0.0:80 listens nginx/4 0-40.
        a tcp 10.0.0.1:80 <- 10.0.0.2 nginx/4 0-30.
        b tcp 10.0.0.2 -> 10.0.0.1:80 wrk/6 0-60 connecting=1
        b tcp 10.0.0.2 -> 10.0.0.1:81 wrk/6 20-60 connecting=1
        b tcp 10.0.0.2 -> 10.0.0.9:82 wrk/6 20-60 connecting=1";
    let outcome = outcome(text, Selector::All, About::Failing(true));
    assert_eq!(outcome.exit_code(), 3);
    let Finding::Failing(_, dead) = &outcome.finding else { panic!("another finding") };
    let told: Vec<_> = dead
        .iter()
        .map(|dead| (dead.port, dead.there, dead.answered, dead.answered_until))
        .collect();
    // Nobody counted, so that "never" is not known of the others.
    assert_eq!(
        told,
        [
            (80, There::Nothing, Answered::Before, Some(second(30))),
            (81, There::Nothing, Answered::Unknown, None),
            (82, There::NoProbe, Answered::Unknown, None),
        ]
    );
}

#[test]
fn what_answered_others_did_not_answer_never() {
    // redis answered an application until it was killed; then it is tried by
    // hand. Its neighbour in a namespace is another.
    let text = "host app
        host db
        host admin
        app has 10.0.0.1
        db has 10.0.0.2 127.0.0.1
        admin has 10.0.0.3
        db tcp 0.0.0.0:22 listens sshd/1
        db tcp 0.0.0.0:6379 listens redis/4 0-30.
        db tcp 10.0.0.2:6379 <- 10.0.0.1 redis/4 0-30. opened=3
        app tcp 10.0.0.1 -> 10.0.0.2:6379 php/7 0-30. opened=3
        admin tcp 10.0.0.3 -> 10.0.0.2:6379 redis-cli/6 40-60 connecting=1 opened=0 failed=2
        db tcp 127.0.0.1 -> 127.0.0.1:6379 redis-cli/8 40-60 connecting=1 opened=0 failed=2
        db@netns:x tcp 127.0.0.1:6379 <- 127.0.0.1 redis/9
        db@netns:x tcp 127.0.0.1 -> 127.0.0.1:6379 php/9";
    let outcome = outcome(text, Selector::All, About::Failing(false));
    let Finding::Failing(_, dead) = &outcome.finding else { panic!("another finding") };
    let told: Vec<_> = dead
        .iter()
        .map(|dead| (dead.address.to_string(), dead.answered, dead.answered_until))
        .collect();
    assert_eq!(
        told,
        [
            ("10.0.0.2".to_owned(), Answered::Before, Some(second(30))),
            ("127.0.0.1".to_owned(), Answered::Never, None),
        ]
    );
}
