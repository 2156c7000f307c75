//! What a collector that is none can do to who asks it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use tokio::time::Instant;

use crate::cmdb::connect::Limits;
use crate::cmdb::remote::Remote;
use crate::cmdb::url::{CmdbUrl, Place};
use crate::recall::Selector;
use crate::wire;
use crate::wire::recall::{Answer, encode_answer};

/// Answers each request with the next of these; where.
fn answering(replies: Vec<(&'static str, Vec<u8>)>) -> CmdbUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (status, body) in replies {
            let mut stream = listener.accept().unwrap().0;
            let mut asked = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                asked.read_line(&mut line).unwrap();
                let told = line.to_ascii_lowercase();
                if let Some(told) = told.strip_prefix("content-length:") {
                    length = told.trim().parse().unwrap();
                }
            }
            asked.read_exact(&mut vec![0; length]).unwrap();
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            // Who has enough of it closes the connection.
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
        }
    });
    CmdbUrl::parse(&url).unwrap()
}

/// A probe has half a gigabyte, and is answered in a few bytes. What may be
/// large is what `look` asks for.
#[tokio::test]
async fn a_reply_of_a_few_bytes_does_not_become_a_gigabyte() {
    let checked = || ("200 OK", wire::pack(&encode_answer(&Answer::Checked)));
    let bomb = || ("200 OK", wire::pack(&vec![0; 1 << 20]));
    let (large, larger) = ("the message is larger", "its answer is larger than 65536 bytes");
    let cases = [
        ("check", vec![bomb()], large),
        ("check", vec![("200 OK", vec![0; 100_000])], larger),
        ("sequence", vec![checked(), bomb()], large),
        ("report", vec![checked(), ("200 OK", vec![b' '; 100_000])], larger),
        ("report", vec![checked(), ("503 Unavailable", vec![b' '; 100_000])], larger),
        ("find", vec![checked(), ("503 Unavailable", vec![b' '; 100_000])], larger),
        ("find", vec![checked(), bomb()], "an answer of an unknown kind"),
    ];
    for (what, replies, says) in cases {
        let url = answering(replies);
        let Place::Remote(site) = url.place() else { panic!("no collector") };
        let until = Instant::now() + Limits::STANDARD.write;
        let told = async {
            let remote = Remote::open(&url, site, &Limits::STANDARD).await?;
            match what {
                "sequence" => drop(remote.last_sequence(1, 1).await?),
                "report" => drop(remote.deliver(Vec::new().into(), until).await?),
                _ => drop(remote.find(&Selector::All, &Default::default()).await?),
            }
            anyhow::Ok(())
        };
        let error = format!("{:#}", told.await.unwrap_err());
        assert!(error.contains(says), "{what}: {error}");
    }
}
