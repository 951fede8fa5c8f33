//! Heads by example, and bodies cut at every place.

use super::*;

fn head(text: &str) -> Result<Head, Malformed> {
    let (length, head) = read_head(text.as_bytes())?.expect("the head is complete");
    assert_eq!(length, text.len());
    Ok(head)
}

fn framing(headers: &str) -> Result<(Framing, bool), Malformed> {
    head(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).map(|head| (head.framing, head.is_lasting))
}

/// The body in `text`, given in pieces of `cut` bytes, and what is left behind it.
fn body(mut framing: Framing, text: &[u8], cut: usize) -> Result<(Vec<u8>, Vec<u8>), Malformed> {
    let (mut body, mut left) = (Vec::new(), Vec::new());
    for piece in text.chunks(cut) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(data) = framing.take(&mut input)? {
            body.extend_from_slice(&data);
        }
        assert!(input.is_empty() || framing.is_over());
        left.extend_from_slice(&input);
    }
    assert_eq!(framing.is_over(), !framing.ends_by_close());
    Ok((body, left))
}

#[test]
fn heads_say_how_their_body_is_framed() {
    let chunked = Framing::Chunked(Chunks::START);
    assert_eq!(framing("Content-Length: 12\r\n"), Ok((Framing::Length(12), true)));
    assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok((chunked, true)));
    assert_eq!(framing(""), Ok((Framing::UntilClose, false)));
    assert_eq!(framing("content-length: 1\r\nconnection: foo, Close\r\n"), Ok((Framing::Length(1), false)));
    assert_eq!(framing("content-length: 1\r\nContent-Length: 1\r\n"), Ok((Framing::Length(1), true)));
    let old = head("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert!(!old.is_lasting);
    let bare = head("HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!((bare.framing, bare.is_lasting), (Framing::Length(0), true));
    let typed = head("HTTP/1.1 404 \r\ncontent-type: a/b\r\ncontent-encoding: gzip\r\n\r\n").unwrap();
    assert_eq!(typed.status, StatusCode::NOT_FOUND);
    assert_eq!(
        (typed.content_type.unwrap(), typed.content_encoding.unwrap()),
        ("a/b".parse().unwrap(), "gzip".parse().unwrap())
    );
    assert_eq!(read_head(b"HTTP/1.1 200 OK\r\ncontent-le"), Ok(None));
}

#[test]
fn an_answer_that_could_run_into_the_next_is_broken() {
    for headers in [
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: +1\r\n",
        "content-length: 1,1\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    ] {
        framing(headers).expect_err(headers);
    }
    assert!(!framing("content-length: 3\r\ntransfer-encoding: chunked\r\n").unwrap().1);
    assert!(read_head(b"SSH-2.0-OpenSSH_9.6\r\n").is_err());
    assert!(head("HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err());
}

#[test]
fn chunks_are_put_together_however_they_are_cut() {
    let text = b"5\r\nhello\r\n00A;x=\"y\"\r\n, chunked \r\n1 \r\n!\r\n0\r\ntrailer: z\r\nother: w\r\n\r\nrest";
    for cut in 1..=text.len() {
        let (body, left) = body(Framing::Chunked(Chunks::START), text, cut).unwrap();
        assert_eq!((&body[..], &left[..]), (&b"hello, chunked !"[..], &b"rest"[..]), "cut at {cut}");
    }
}

#[test]
fn chunks_that_are_none_are_refused() {
    let endless = [&b"1;"[..], &[b'x'; ENGINE_EXTENSION_BYTES_MAX + 1]].concat();
    let trailers = [&b"0\r\n"[..], &[b'x'; ENGINE_TRAILER_BYTES_MAX + 1]].concat();
    for text in [
        &b"\r\n"[..],
        b"x\r\n",
        b"-1\r\n",
        b"5\nhello",
        b"5\r\nhello0\r\n",
        b"2\r\nab\n0\r\n",
        b"1000000000000000\r\n",
        &endless,
        &trailers,
    ] {
        let mut framing = Framing::Chunked(Chunks::START);
        let mut input = Bytes::copy_from_slice(text);
        let refused = loop {
            match framing.take(&mut input) {
                Ok(Some(_)) => {}
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(refused, "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn a_length_and_a_close_end_bodies_too() {
    for cut in 1..6 {
        assert_eq!(body(Framing::Length(3), b"abcde", cut).unwrap(), (b"abc".to_vec(), b"de".to_vec()));
        assert_eq!(body(Framing::UntilClose, b"abcde", cut).unwrap(), (b"abcde".to_vec(), vec![]));
    }
}
