use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=XX";

fn form(body: &[u8]) -> Result<Vec<(String, bool, Vec<u8>)>, BodyError> {
    let form = Form::read(TYPE, body)?;
    let part = |part: &Part<'_>| (part.name.to_owned(), part.is_file, body[part.value.clone()].to_vec());
    Ok(form.parts.iter().map(part).collect())
}

/// A form of one part whose head and content are given.
fn one(head: &str, content: &str) -> Vec<u8> {
    format!("--XX\r\n{head}\r\n\r\n{content}\r\n--XX--\r\n").into_bytes()
}

fn plain(name: &str, content: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
}

#[test]
fn forms_of_real_clients_are_read() {
    let file = |disposition: &str, content_type: &str| {
        let head =
            format!("Content-Disposition: form-data; name=\"file\"; {disposition}\r\nContent-Type: {content_type}");
        assert_eq!(
            form(&one(&head, "RIFF\r\n\0")),
            Ok(vec![("file".to_owned(), true, b"RIFF\r\n\0".to_vec())]),
            "{head}"
        );
    };
    file("filename=\"a.wav\"", "audio/wav");
    file("filename=\"a \\\"b\\\".wav\"", "audio/wav");
    file("filename=\"na\u{ef}ve;name=x.wav\"", "application/octet-stream");
    file("filename*=utf-8''na%C3%AFve.wav", "audio/wav");
    file("filename=a.wav", "audio/wav");
    let body = [plain("model", "whisper-1"), plain("timestamp_granularities[]", "word")].concat() + "--XX--";
    let names = |parts: Vec<(String, bool, Vec<u8>)>| parts.into_iter().map(|part| part.0).collect::<Vec<_>>();
    assert_eq!(form(body.as_bytes()).map(names), Ok(vec!["model".to_owned(), "timestamp_granularities[]".to_owned()]));
    for head in [
        "content-disposition: FORM-DATA;name=\"model\"",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Length: 1\r\nContent-Transfer-Encoding: binary",
    ] {
        assert_eq!(form(&one(head, "m")), Ok(vec![("model".to_owned(), false, b"m".to_vec())]), "{head}");
    }
    assert_eq!(form(b"--XX--\r\n"), Ok(Vec::new()));
}

#[test]
fn boundaries_of_real_clients_are_read() {
    for (given, expected) in [
        ("multipart/form-data; boundary=XX", "multipart/form-data; boundary=XX"),
        ("Multipart/Form-Data;boundary=\"XX\"", "multipart/form-data; boundary=XX"),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4",
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4",
        ),
        ("multipart/form-data; boundary===1==", "multipart/form-data; boundary=\"==1==\""),
        ("multipart/form-data; boundary=\"a:b/c\"", "multipart/form-data; boundary=\"a:b/c\""),
    ] {
        assert_eq!(multipart_type(given).as_deref(), Ok(expected), "{given}");
    }
}

#[test]
fn a_boundary_that_could_be_read_in_two_ways() {
    for given in [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=a; charset=utf-16",
        "multipart/form-data; charset=utf-8; boundary=a",
        "multipart/form-data; boundary*=utf-8''a",
        "multipart/form-data; boundary*0=a",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=\"a\"b",
        "multipart/form-data; boundary=\"a\\\"b\"",
        "multipart/form-data; boundary=a/b",
        "multipart/mixed; boundary=a",
        "application/json; boundary=a",
        "application/x-www-form-urlencoded",
        "multipart/form-data, multipart/form-data; boundary=a",
    ] {
        assert_eq!(multipart_type(given), Err(BodyError::NotMultipart), "{given}");
    }
    let long = format!("multipart/form-data; boundary={}", "a".repeat(MULTIPART_BOUNDARY_MAX + 1));
    assert_eq!(multipart_type(&long), Err(BodyError::NotMultipart));
}

#[track_caller]
fn check_refused(body: &[u8], fault: &str) {
    match form(body) {
        Err(error @ (BodyError::Multipart { .. } | BodyError::DuplicateKey { .. } | BodyError::TooLarge)) => {
            assert!(error.to_string().contains(fault), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_in_the_preamble_or_the_epilogue() {
    check_refused(b"hi\r\n--XX--", "begin with the boundary");
    check_refused(b"\r\n--XX--", "begin with the boundary");
    check_refused(b"", "begin with the boundary");
    check_refused(format!("{}--XX--\r\n{}--XX--", plain("a", "1"), plain("model", "x")).as_bytes(), "follows its last");
    check_refused(b"--XX--\r\n\r\n", "follows its last");
}

#[test]
fn a_part_behind_a_boundary_that_is_not_quite_one() {
    let hidden = plain("model", "cheap").replacen("--XX", "--XXX", 1);
    check_refused(format!("{}{hidden}--XX--", plain("a", "1")).as_bytes(), "goes on");
    check_refused(b"--XX \r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--XX--", "goes on");
    check_refused(b"--XX\nContent-Disposition: form-data; name=\"a\"\n\n1\n--XX--", "goes on");
    check_refused(plain("a", "1").as_bytes(), "last boundary is missing");
    check_refused(b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1", "last boundary is missing");
}

/// Readers that go line by line, such as Go's or Python's, end an empty value at its first line.
#[test]
fn a_second_model_in_the_first_line_of_a_file() {
    let hidden = plain("model", "dear");
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"a\"";
    check_refused(&one(head, &hidden), "begins with the boundary");
    check_refused(&one(head, "--XX--"), "begins with the boundary");
    // It begins with the boundary and is none: refused by the same rule, wherever a line begins.
    check_refused(&one(head, "--XXX"), "begins with the boundary");
}

/// Some readers end lines at a lone LF or CR.
#[test]
fn a_second_model_behind_half_a_line_break() {
    let hidden = plain("model", "dear");
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"a\"";
    for half in ["\n", "\r", "\n\n", "\n\r", "\r\r"] {
        check_refused(&one(head, &format!("RIFF{half}{hidden}")), "begins with the boundary");
    }
    let within = form(&one(head, "RIFF --XX\r\n -- XX"));
    assert!(within.is_ok_and(|parts| parts.len() == 1), "in the midst of a line it is data");
}

#[test]
fn a_part_that_is_a_form_of_its_own_or_of_another_length() {
    let disposition = "Content-Disposition: form-data; name=\"file\"; filename=\"a\"";
    for content_type in ["multipart/mixed; boundary=YY", "Multipart/Form-Data; boundary=YY", "message/rfc822"] {
        check_refused(&one(&format!("{disposition}\r\nContent-Type: {content_type}"), "x"), "of its own");
    }
    for length in ["0", "2", "+3", "03", "3, 3", "", "99999999999999999999"] {
        check_refused(&one(&format!("{disposition}\r\nContent-Length: {length}"), "abc"), "Content-Length");
    }
    assert!(form(&one(&format!("{disposition}\r\nContent-Length: 3"), "abc")).is_ok());
}

#[test]
fn a_file_name_behind_white_space_that_others_take_for_a_letter() {
    for blank in ["\u{a0}", "\u{85}", "\u{2003}", "\u{3000}"] {
        let head = format!("Content-Disposition: form-data; name=\"file\";{blank}filename=\"a\"");
        check_refused(&one(&head, "http://169.254.169.254/"), "form-data");
    }
}

#[test]
fn a_name_that_is_given_twice() {
    check_refused(format!("{}{}--XX--", plain("model", "a"), plain("model", "b")).as_bytes(), "twice");
    check_refused(&one("Content-Disposition: form-data; name=\"a\"; name=\"model\"", "x"), "with one name");
    let twice = "Content-Disposition: form-data; name=\"a\"\r\ncontent-disposition: form-data; name=\"model\"";
    check_refused(&one(twice, "x"), "given twice");
    let lists = format!("{}{}--XX--", plain("include[]", "a"), plain("include[]", "b"));
    assert_eq!(form(lists.as_bytes()).map(|parts| parts.len()), Ok(2));
}

#[test]
fn a_name_that_is_spelled_in_a_way_of_its_own() {
    for name in
        ["name=\"mod\\el\"", "name=\"model%00\"", "name*=utf-8''model", "name=\"\"", "name=\"a b\"", "filename=\"a\""]
    {
        assert!(form(&one(&format!("Content-Disposition: form-data; {name}"), "x")).is_err(), "{name}");
    }
    for head in [
        "Content-Disposition: attachment; name=\"model\"",
        "Content-Disposition: form-data",
        "Content-Disposition: form-data; name=\"model",
        "Content-Disposition: form-data; name=\"model\" x",
        "Content-Disposition: form-data; name=\"model\";",
        "Content-Disposition: form-data;\r\n name=\"model\"",
        "Content-Type: text/plain",
        "no header",
        "X-Other: 1\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"a\"; filename=\"a\0b\"",
    ] {
        assert!(form(&one(head, "x")).is_err(), "{head}");
    }
}

#[test]
fn a_flood_of_parts_and_a_head_without_end() {
    let parts: String = (0..=MULTIPART_PARTS_MAX).map(|index| plain(&format!("f{index}"), "")).collect();
    check_refused(format!("{parts}--XX--").as_bytes(), "too large");
    let head = format!("Content-Disposition: form-data; name=\"a\"; filename=\"{}\"", "x".repeat(MULTIPART_HEAD_MAX));
    check_refused(&one(&head, ""), "a long one");
}

#[test]
fn a_text_field_that_is_a_file_or_in_another_encoding() {
    for head in [
        "Content-Disposition: form-data; name=\"model\"; filename=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=utf-16",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: application/json",
    ] {
        let body = one(head, "m");
        let form = Form::read(TYPE, &body).unwrap();
        assert!(
            matches!(form.text(&form.parts[0], "model"), Err(BodyError::BadField { field: "model", .. })),
            "{head}"
        );
    }
}

#[test]
fn edits_touch_nothing_else() {
    let (model, timeout, file) = (plain("model", "m"), plain("timeout", "5"), plain("file", "\0\r\n--X\u{1f980}"));
    let body = Bytes::from(format!("{timeout}{model}{file}--XX--"));
    let form = Form::read(TYPE, &body).unwrap();
    assert_eq!(form.edited(&body, &["other"], None).as_ptr(), body.as_ptr());
    assert_eq!(form.edited(&body, &["timeout"], None), format!("{model}{file}--XX--"));
    let added = plain("stream_include_usage", "true");
    assert_eq!(
        form.edited(&body, &[], Some(("stream_include_usage", "true"))),
        format!("{timeout}{model}{file}{added}--XX--")
    );
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        parts in prop::collection::vec(("[a-z_]{1,12}", any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 0..8),
        boundary in "[0-9A-Za-z'_-]{8,40}",
    ) {
        let mut body = Vec::new();
        let mut expected = Vec::new();
        for (index, (name, is_file, value)) in parts.into_iter().enumerate() {
            let name = format!("{name}{index}");
            let file = if is_file { "; filename=\"f.bin\"\r\nContent-Type: audio/wav" } else { "" };
            body.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes());
            body.extend_from_slice(&value);
            body.extend_from_slice(b"\r\n");
            expected.push((name, is_file, value));
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let form = Form::read(&content_type, &body).unwrap();
        let read: Vec<_> =
            form.parts.iter().map(|part| (part.name.to_owned(), part.is_file, body[part.value.clone()].to_vec())).collect();
        prop_assert_eq!(&read, &expected);
        // The parts and the closing delimiter are the whole body, so an edit loses nothing.
        let mut whole: Vec<u8> = form.parts.iter().flat_map(|part| body[part.whole.clone()].to_vec()).collect();
        whole.extend_from_slice(&body[form.close..]);
        prop_assert_eq!(whole, body);
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(prop_oneof![
        Just(b"--XX".to_vec()), Just(b"\r\n".to_vec()), Just(b"Content-Disposition: form-data; name=\"a\"".to_vec()),
        Just(b"--".to_vec()), Just(b"; filename=\"x\"".to_vec()), prop::collection::vec(any::<u8>(), 0..9),
    ], 0..30)) {
        crate::fuzzing::form(&body.concat());
    }
}
