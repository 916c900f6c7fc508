use rota_core::id::SecretId;
use rota_core::policy::model::Owner;

use super::*;

/// One notice of every kind, as the machine words them.
fn notice(kind: NoticeKind) -> Notice {
    let name = "JWT_SECRET";
    Notice {
        key: format!("{}-1", kind.as_str()),
        kind,
        secret: Some(SecretId::new(name).unwrap()),
        rotation: None,
        owner: Some(OwnerId::new("platform").unwrap()),
        priority: Priority::High,
        what: "the rollout of backend failed".to_owned(),
        impact: "the old value still works".to_owned(),
        next: "nothing happens until somebody decides".to_owned(),
        command: Some(format!("rota rollback {name} --reason ...")),
        link: Some("https://runbooks.example/rotation".to_owned()),
        at: "2026-01-15T10:00:00Z".parse().unwrap(),
    }
}

const KINDS: [NoticeKind; 14] = [
    NoticeKind::Emergency,
    NoticeKind::Held,
    NoticeKind::CheckFailed,
    NoticeKind::RolledBack,
    NoticeKind::Overdue,
    NoticeKind::WaitingForPerson,
    NoticeKind::Abandoned,
    NoticeKind::PolicyRejected,
    NoticeKind::DueSoon,
    NoticeKind::Started,
    NoticeKind::Completed,
    NoticeKind::PolicyAccepted,
    NoticeKind::Digest,
    NoticeKind::Test,
];

fn owners() -> BTreeMap<OwnerId, Owner> {
    let owner = |mention: Option<&str>| Owner {
        slack_mention: mention.map(ToOwned::to_owned),
        slack_escalation: mention.map(|_| "S0ONCALL".to_owned()),
    };
    BTreeMap::from([
        (OwnerId::new("platform").unwrap(), owner(Some("S012AB3CD"))),
        (OwnerId::new("payments").unwrap(), owner(None)),
    ])
}

fn acd() -> Origin {
    Origin { name: "acd production".to_owned(), status_url: None }
}

/// A message as a reader sees it: every text of every block, line by line.
fn seen(message: &Value) -> String {
    let mut lines = Vec::new();
    for block in message["blocks"].as_array().unwrap() {
        match block["type"].as_str().unwrap() {
            "section" => lines.push(block["text"]["text"].as_str().unwrap().to_owned()),
            "context" => lines.push(block["elements"][0]["text"].as_str().unwrap().to_owned()),
            other => panic!("a block of type {other}"),
        }
    }
    lines.join("\n")
}

/// Slack's limits, and ours of eight lines.
fn assert_fits(message: &Value) {
    let blocks = message["blocks"].as_array().unwrap();
    assert!(!blocks.is_empty() && blocks.len() <= 50);
    let fallback = message["text"].as_str().unwrap();
    assert!(!fallback.is_empty() && fallback.chars().count() <= 3_000 && !fallback.contains('\n'));
    let seen = seen(message);
    assert!(seen.lines().count() <= 8, "{} lines:\n{seen}", seen.lines().count());
    assert!(seen.chars().count() <= 13_000);
    for block in blocks {
        let text = block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()).unwrap();
        assert!(!text.is_empty() && text::length(text) <= MAX_SECTION, "{} characters", text::length(text));
    }
}

#[test]
fn a_message_says_what_now_next_and_the_command() {
    let message = render(&[notice(NoticeKind::Held)], &acd(), &owners());
    assert_fits(&message);
    assert_eq!(message["text"], "Held JWT_SECRET: the rollout of backend failed");
    assert_eq!(
        seen(&message),
        ":octagonal_sign: *Held* `JWT_SECRET`\n\
         the rollout of backend failed\n\
         *Now:* the old value still works\n\
         *Next:* nothing happens until somebody decides\n\
         *Run:* `rota rollback JWT_SECRET --reason ...`\n\
         <https://runbooks.example/rotation|Open the page>\n\
         *Owner:* <!subteam^S012AB3CD>, escalated to <!subteam^S0ONCALL>\n\
         acd production · high priority · <!date^1768471200^{date_short_pretty} {time}|2026-01-15 10:00 UTC>"
    );
}

#[test]
fn every_kind_fits_however_long_its_texts_are() {
    for kind in KINDS {
        for filler in ["x", "&", "<", "😀", "\n", "a\nb\n", "`"] {
            let mut notice = notice(kind);
            notice.secret = Some(SecretId::new(&"A".repeat(128)).unwrap());
            notice.owner = Some(OwnerId::new(&"o".repeat(128)).unwrap());
            notice.what = filler.repeat(5_000);
            notice.impact = filler.repeat(5_000);
            notice.next = filler.repeat(5_000);
            notice.command = Some(filler.repeat(350));
            notice.link = Some(format!("https://example.com/?{}", "a=b&".repeat(60)));
            let url = format!("https://rota.example/{}", "&".repeat(300));
            let origin = Origin { name: filler.repeat(500), status_url: Some(url) };
            assert_fits(&render(std::slice::from_ref(&notice), &origin, &owners()));
            assert_fits(&render(&vec![notice; 1_000], &origin, &owners()));
        }
    }
}

#[test]
fn a_message_with_nothing_to_say_still_names_its_kind() {
    for kind in KINDS {
        let empty = Notice {
            secret: None,
            owner: None,
            what: String::new(),
            impact: String::new(),
            next: String::new(),
            command: None,
            link: None,
            ..notice(kind)
        };
        let message = render(&[empty], &Origin::default(), &owners());
        assert_fits(&message);
        assert_eq!(message["text"], Look::of(kind).title);
    }
}

#[test]
fn no_text_can_call_a_channel_or_forge_a_link() {
    let attack = "<!channel> <@U1> <https://evil.example|click> &lt;!here&gt;";
    let hostile = Notice {
        what: attack.to_owned(),
        impact: attack.to_owned(),
        next: attack.to_owned(),
        command: Some(attack.to_owned()),
        link: Some("https://a.example/>|<!channel>".to_owned()),
        ..notice(NoticeKind::Held)
    };
    let origin = Origin { name: attack.to_owned(), status_url: Some(attack.to_owned()) };
    for notices in [vec![hostile.clone()], vec![hostile.clone(), hostile]] {
        let message = render(&notices, &origin, &BTreeMap::new());
        let text = format!("{}\n{}", message["text"].as_str().unwrap(), seen(&message));
        for tag in text.split('<').skip(1) {
            let allowed = tag.starts_with("!date^") || tag.starts_with("https://a.example/");
            assert!(allowed, "<{tag}");
        }
    }
}

#[test]
fn an_owner_without_a_mention_is_named() {
    let unknown = Notice { owner: Some(OwnerId::new("payments").unwrap()), ..notice(NoticeKind::Held) };
    assert!(seen(&render(&[unknown], &Origin::default(), &owners())).contains("*Owner:* payments\n"));
}

#[test]
fn a_storm_is_one_message_with_counts_and_the_most_urgent_first() {
    let mut notices: Vec<Notice> = (0..6).map(|_| notice(NoticeKind::Overdue)).collect();
    notices.push(notice(NoticeKind::Completed));
    notices.push(Notice { priority: Priority::Low, ..notice(NoticeKind::Held) });
    notices.push(Notice {
        secret: Some(SecretId::new("ENCRYPTION_KEY").unwrap()),
        priority: Priority::Critical,
        ..notice(NoticeKind::Held)
    });
    notices.push(Notice { owner: Some(OwnerId::new("payments").unwrap()), ..notice(NoticeKind::Emergency) });
    let message = render(&notices, &acd(), &owners());
    assert_fits(&message);
    assert_eq!(message["text"], "10 notices: 1 emergency, 2 held, 6 overdue, 1 completed");
    let seen = seen(&message);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], ":ocean: *10 notices: 1 emergency, 2 held, 6 overdue, 1 completed*");
    assert!(lines[1].starts_with("• :rotating_light: *Emergency* `JWT_SECRET`: the rollout"), "{}", lines[1]);
    assert!(lines[2].starts_with("• :octagonal_sign: *Held* `ENCRYPTION_KEY`"), "{}", lines[2]);
    assert!(lines[2].ends_with(" → `rota rollback JWT_SECRET --reason ...`"), "{}", lines[2]);
    assert!(lines[3].starts_with("• :octagonal_sign: *Held* `JWT_SECRET`"), "{}", lines[3]);
    assert_eq!(lines[5], "… and 6 more: `rota status`");
    assert_eq!(lines[6], "*Owners:* payments, <!subteam^S012AB3CD>, <!subteam^S0ONCALL>");
}

#[test]
fn the_digest_keeps_its_lines_and_says_how_many_it_left_out() {
    let digest = Notice {
        secret: None,
        owner: None,
        what: "42 secrets: 39 fine, 2 due within 14 days, 1 overdue".to_owned(),
        impact: (1..=9).map(|n| format!("SECRET_{n} is due in {n} days")).collect::<Vec<_>>().join("\n"),
        next: String::new(),
        command: Some("rota plan --days 14".to_owned()),
        link: None,
        ..notice(NoticeKind::Digest)
    };
    let message = render(&[digest], &acd(), &owners());
    assert_fits(&message);
    let seen = seen(&message);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[0], ":newspaper: *Daily digest*");
    assert_eq!(lines[1], "42 secrets: 39 fine, 2 due within 14 days, 1 overdue");
    assert_eq!(lines[4], "SECRET_3 is due in 3 days");
    assert_eq!(lines[5], "… and 6 more");
    assert_eq!(lines[6], "*Run:* `rota plan --days 14`");
}

#[test]
fn ranks_order_every_kind_and_no_two_share_one() {
    let ranks: BTreeSet<u8> = KINDS.iter().map(|kind| Look::of(*kind).rank).collect();
    assert_eq!(ranks.len(), KINDS.len());
}

#[test]
fn from_high_priority_on_a_second_party_is_called_where_a_person_is_needed() {
    let calls = |kind, priority| {
        let notice = Notice { priority, ..notice(kind) };
        let message = render(std::slice::from_ref(&notice), &acd(), &owners());
        let storm = render(&[notice.clone(), notice], &acd(), &owners());
        let called = seen(&message).contains(", escalated to <!subteam^S0ONCALL>");
        assert_eq!(seen(&storm).contains("<!subteam^S0ONCALL>"), called, "{kind:?} {priority:?}");
        called
    };
    for kind in KINDS {
        let needs_a_person = matches!(
            kind,
            NoticeKind::Emergency | NoticeKind::Held | NoticeKind::Overdue | NoticeKind::Abandoned
        );
        for priority in [Priority::Critical, Priority::High] {
            assert_eq!(calls(kind, priority), needs_a_person, "{kind:?} {priority:?}");
        }
        for priority in [Priority::Medium, Priority::Low] {
            assert!(!calls(kind, priority), "{kind:?} {priority:?}");
        }
    }
}

#[test]
fn every_message_links_to_the_status_page_that_is_configured() {
    let origin = Origin { status_url: Some("https://rota.internal/".to_owned()), ..acd() };
    let one = seen(&render(&[notice(NoticeKind::Held)], &origin, &owners()));
    let many = seen(&render(&[notice(NoticeKind::Held), notice(NoticeKind::Overdue)], &origin, &owners()));
    for text in [one, many] {
        assert!(text.ends_with(" · <https://rota.internal/|status page>"), "{text}");
    }
    let script = Origin { status_url: Some("javascript:alert(1)".to_owned()), ..acd() };
    assert!(!seen(&render(&[notice(NoticeKind::Held)], &script, &owners())).contains("alert"));
}
