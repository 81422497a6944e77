//! The Range header, as far as resuming a download needs it: one range of bytes, from the start or the middle.

use std::ops::Range;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

/// Which bytes of `length` are wanted: all of them without a header, or with one that is not understood (as RFC 9110
/// wants); nothing where the range lies behind the end.
#[expect(
    clippy::option_option,
    reason = "outer: whether it can be answered; inner: whether a part is asked for"
)]
pub(crate) fn wanted(headers: &HeaderMap, length: u64) -> Option<Option<Range<u64>>> {
    let Some(text) = headers.get(header::RANGE).and_then(|value| value.to_str().ok()) else {
        return Some(None);
    };
    let Some((first, last)) = parse(text) else {
        return Some(None);
    };
    let end = last.map_or(length, |last| last.saturating_add(1).min(length));
    if first >= end {
        return None;
    }
    Some(Some(first..end))
}

fn parse(text: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    let last = if last.is_empty() {
        None
    } else {
        Some(last.parse().ok()?)
    };
    last.is_none_or(|last| first <= last).then_some((first, last))
}

/// The answer to a range behind the end.
pub(crate) fn not_satisfiable(length: u64) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_honoured_and_anything_else_gets_all() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_str(text).unwrap());
            wanted(&headers, 10)
        };
        assert_eq!(wanted(&HeaderMap::new(), 10), Some(None));
        assert_eq!(of("bytes=0-"), Some(Some(0..10)));
        assert_eq!(of("bytes=4-"), Some(Some(4..10)));
        assert_eq!(of("bytes=4-5"), Some(Some(4..6)));
        assert_eq!(of("bytes=4-400"), Some(Some(4..10)));
        assert_eq!(of("bytes=10-"), None);
        let last = format!("bytes=0-{}", u64::MAX);
        assert_eq!(of(&last), Some(Some(0..10)));
        for odd in [
            "bytes=-5",
            "bytes=5-4",
            "bytes=a-b",
            "lines=1-2",
            "bytes=0-1,3-4",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(of(odd), Some(None), "{odd}");
        }
    }
}
