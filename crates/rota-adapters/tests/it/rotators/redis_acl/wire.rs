//! What goes over the wire: a password only in AUTH.

use std::sync::{Arc, Mutex};

use rota_engine::ports::TargetEffect;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::server::{Cache, FIRST, fence, hash};

const NEXT: &str = "next-word-of-many";

/// Passes everything on, and keeps what clients say.
async fn listen_in(port: u16) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let own = listener.local_addr().unwrap().port();
    let kept = Arc::clone(&said);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            let kept = Arc::clone(&kept);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    kept.lock().unwrap().extend_from_slice(&buffer[..read]);
                    if to_server.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (own, said)
}

#[tokio::test]
async fn a_password_is_sent_in_auth_and_nowhere_else() {
    let mut cache = Cache::one_user().await;
    let (port, said) = listen_in(cache.nodes[0].port()).await;
    cache.settings["nodes"] = json!([format!("127.0.0.1:{port}")]);
    let (rotator, context) = (cache.rotator_alone(), cache.context(Some(NEXT)));
    rotator.preflight(&context).await.unwrap();
    let effects = [
        TargetEffect::Install,
        TargetEffect::Disable,
        TargetEffect::Restore,
        TargetEffect::Disable,
        TargetEffect::Revoke,
    ];
    for (number, effect) in (1..).zip(effects) {
        rotator.observe(effect, &context).await.unwrap();
        rotator.apply(effect, &context, fence(number)).await.unwrap();
        for which in [rota_engine::ports::Which::Old, rota_engine::ports::Which::New] {
            rotator.prove(which, &context).await.unwrap();
        }
    }
    let said = String::from_utf8(said.lock().unwrap().clone()).unwrap();
    for password in [FIRST, NEXT] {
        let login = format!("AUTH\r\n$3\r\nacd\r\n${}\r\n{password}\r\n", password.len());
        let logins = said.matches(&login).count();
        assert!(logins > 0, "{password} was never used");
        assert_eq!(said.matches(password).count(), logins, "a password stands outside of AUTH");
        assert!(said.contains(&hash(password)), "what is set is the hash");
    }
}
