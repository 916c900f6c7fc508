use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use jiff::SignedDuration;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use rota_core::fault::Fault;
use rota_fakes::http::{Effect, Fault as Scripted, Listen, Script, Serving};
use rota_fakes::tls::TestCa;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn serve(listen: Listen) -> (Serving, Script) {
    let script = Script::new();
    let router = Router::new().route("/", get(async || "hello"));
    (Serving::start(router, script.clone(), listen).unwrap(), script)
}

fn options(trust: Trust) -> HttpOptions {
    HttpOptions { trust, call_timeout: Duration::from_millis(500), ..HttpOptions::default() }
}

async fn get_from(client: &HttpClient, url: &str) -> Result<Response, Fault> {
    client.send("the page", client.request(Method::GET, url)?).await
}

/// A client to which every name means `addresses`.
fn client_for(reach: Reach, addresses: &[&str]) -> HttpClient {
    let found: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
    let options = HttpOptions { reach, ..options(Trust::System) };
    let lookup: Lookup = Arc::new(move |_| {
        let found = found.clone();
        Box::pin(async move { Ok(found) })
    });
    HttpClient::with_lookup(&options, lookup).unwrap()
}

#[test]
fn addresses_are_public_private_or_never_reached() {
    let closed = Reach::default();
    let open = Reach::private_within(vec!["10.1.0.0/16".parse().unwrap(), "fd12::/16".parse().unwrap()]);
    for text in ["1.1.1.1", "127.0.0.1", "127.8.8.8", "::1", "2606:4700::1111", "::ffff:8.8.8.8"] {
        closed.judge(ip(text)).unwrap();
    }
    for text in ["10.1.2.3", "fd12::5", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1"] {
        assert_eq!(closed.judge(ip(text)), Err(Refusal::Private(ip(text))), "{text}");
        open.judge(ip(text)).unwrap();
    }
    for text in ["10.2.0.1", "172.16.0.1", "172.31.9.9", "192.168.1.1", "100.64.0.1", "fc00::1", "198.18.0.1"]
    {
        assert_eq!(open.judge(ip(text)), Err(Refusal::Private(ip(text))), "{text}");
        Reach::private_too().judge(ip(text)).unwrap();
    }
}

#[test]
fn metadata_services_are_never_reached_in_any_spelling() {
    for text in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::1",
        "100.100.100.200",
        "168.63.129.16",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
    ] {
        assert_eq!(Reach::private_too().judge(ip(text)), Err(Refusal::Never(ip(text))), "{text}");
    }
}

#[test]
fn urls_are_https_or_loopback_and_hold_no_credentials() {
    let reach = Reach::default();
    for good in
        ["https://vault.internal:8200/v1", "http://localhost:1/", "http://127.0.0.1/", "http://[::1]:9/"]
    {
        check_url(good, &reach).unwrap();
    }
    for bad in [
        "http://vault.internal/",
        "http://localhost.example.com/",
        "http://10.0.0.1/",
        "https://user:hunter2@example.com/",
        "https://10.0.0.1/",
        "https://[fd00:ec2::254]/",
        "https://2852039166/",
        "ftp://example.com/",
        "vault.internal",
        "",
    ] {
        let Err(Fault::Invalid { message }) = check_url(bad, &reach) else { panic!("{bad} was taken") };
        assert!(!message.contains("hunter2"));
    }
}

#[tokio::test]
async fn a_name_is_judged_by_the_addresses_it_resolves_to() {
    let metadata = client_for(Reach::private_too(), &["169.254.169.254"]);
    let Err(Fault::Invalid { message }) = get_from(&metadata, "https://innocent.example.com/").await else {
        panic!("the metadata service was called")
    };
    assert!(message.contains("169.254.169.254"), "{message}");

    let private = client_for(Reach::default(), &["10.0.0.7"]);
    let Err(Fault::Invalid { message }) = get_from(&private, "https://innocent.example.com/").await else {
        panic!("a private address was called")
    };
    assert!(message.contains("http.private_networks"), "{message}");

    let elsewhere = client_for(Reach::default(), &["1.1.1.1"]);
    assert!(matches!(get_from(&elsewhere, "http://localhost:1/").await, Err(Fault::Invalid { .. })));
}

#[test]
fn addresses_that_may_be_reached_remain_where_others_are_refused() {
    let found = [ip("169.254.169.254"), ip("1.1.1.1"), ip("10.0.0.1")];
    assert_eq!(Reach::default().allowed("x", false, &found), Ok(vec![ip("1.1.1.1")]));
    assert_eq!(Reach::default().allowed("x", false, &[]), Err(Refusal::NoAddress("x".to_owned())));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let (serving, script) = serve(Listen::default());
    let headers = vec![("location".to_owned(), "http://169.254.169.254/".to_owned())];
    script.add(Scripted::next("GET /", Effect::Answer { status: 302, headers, body: String::new() }));
    let client = HttpClient::new(&options(Trust::System)).unwrap();
    let answer = get_from(&client, &serving.url()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert!(matches!(status_fault("x", answer.status(), answer.headers()), Fault::Invalid { .. }));
    assert_eq!(script.count("GET"), 1);
}

#[tokio::test]
async fn a_call_that_gets_no_answer_is_unknown_and_not_repeated() {
    let (serving, script) = serve(Listen::default());
    let client = HttpClient::new(&options(Trust::System)).unwrap();
    for effect in [Effect::Hang, Effect::CutBefore, Effect::CutAfter] {
        script.add(Scripted::next("GET /", effect));
        let url = format!("{}/?token=hunter2", serving.url());
        let Err(Fault::Transient { message }) = get_from(&client, &url).await else {
            panic!("an answer came")
        };
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert_eq!(script.count("GET"), 3);

    let address = serving.url();
    drop(serving);
    let Err(Fault::Transient { message }) = get_from(&client, &address).await else {
        panic!("nobody is there")
    };
    assert!(message.contains("cannot be reached"), "{message}");
}

#[tokio::test]
async fn only_a_trusted_certificate_is_taken() {
    let (ours, other) = (TestCa::new().unwrap(), TestCa::new().unwrap());
    let tls = ours.issue(&["localhost"]).unwrap().server_config().unwrap();
    let (serving, _script) = serve(Listen { tls: Some(tls), ..Listen::default() });
    let trusting = |pem: &str| HttpClient::new(&options(Trust::Only(pem.as_bytes().to_vec()))).unwrap();
    let answer = get_from(&trusting(ours.pem()), &serving.url()).await.unwrap();
    assert_eq!(read_body("x", answer, 5).await.unwrap(), b"hello");

    let refused = get_from(&trusting(other.pem()), &serving.url()).await;
    let Err(Fault::Transient { message }) = refused else { panic!("a stranger's certificate was taken") };
    assert!(message.contains("not trusted"), "{message}");

    for pem in ["", "no certificate"] {
        let refused = HttpClient::new(&options(Trust::SystemAnd(pem.as_bytes().to_vec())));
        assert!(matches!(refused, Err(Fault::Invalid { .. })));
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit() {
    let (serving, _script) = serve(Listen::default());
    let client = HttpClient::new(&options(Trust::System)).unwrap();
    let answer = get_from(&client, &serving.url()).await.unwrap();
    assert!(date(answer.headers()).is_some());
    assert!(matches!(read_body("x", answer, 4).await, Err(Fault::Invalid { .. })));
}

#[test]
fn each_status_names_what_to_do_next() {
    let none = HeaderMap::new();
    let kind = |status: u16| status_fault("it", StatusCode::from_u16(status).unwrap(), &none);
    for status in [401, 403] {
        assert!(matches!(kind(status), Fault::Denied { .. }), "{status}");
    }
    for status in [408, 425, 500, 502, 503, 504] {
        assert!(matches!(kind(status), Fault::Transient { .. }), "{status}");
    }
    for status in [409, 412] {
        assert!(matches!(kind(status), Fault::Conflict { .. }), "{status}");
    }
    for status in [301, 307, 400, 404, 405, 410, 422] {
        assert!(matches!(kind(status), Fault::Invalid { .. }), "{status}");
    }
    assert!(matches!(kind(429), Fault::RateLimited { retry_after: DEFAULT_RETRY_AFTER, .. }));
}

#[test]
fn a_rate_limit_is_waited_out_as_asked_but_at_most_an_hour() {
    let headers = |retry: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(retry));
        headers.insert(DATE, HeaderValue::from_static("Thu, 15 Jan 2026 10:00:00 GMT"));
        retry_after(&headers)
    };
    assert_eq!(headers("7"), SignedDuration::from_secs(7));
    assert_eq!(headers("86400"), MAX_RETRY_AFTER);
    assert_eq!(headers("Thu, 15 Jan 2026 10:00:30 GMT"), SignedDuration::from_secs(30));
    assert_eq!(headers("Thu, 15 Jan 2026 09:00:00 GMT"), DEFAULT_RETRY_AFTER);
    assert_eq!(headers("soon"), DEFAULT_RETRY_AFTER);
}
