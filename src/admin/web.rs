//! The pages for people, and what belongs to them: files that are part of the program. They load nothing from elsewhere, and their
//! `content-security-policy` allows nothing else.
//!
//! The files are the same for everybody and say nothing, so they need no login; the pages do.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Response, StatusCode};

use super::tokens::Holder;
use super::{TEXT, reply};

/// Beginning of the paths of files.
pub(super) const FILES: &str = "/web/";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const LOGOUT: &str = "<form method=\"post\" action=\"/logout\"><button class=\"plain\">Log out</button></form>";

const ALL: &[(&str, &str, &str)] = &[
    ("base.css", STYLE, include_str!("web/base.css")),
    ("dashboard.css", STYLE, include_str!("web/dashboard.css")),
    ("driver.css", STYLE, include_str!("web/driver.css")),
    ("icon.svg", "image/svg+xml", include_str!("web/icon.svg")),
    ("link.js", SCRIPT, include_str!("web/link.js")),
    ("text.js", SCRIPT, include_str!("web/text.js")),
    ("acknowledge.js", SCRIPT, include_str!("web/acknowledge.js")),
    ("chart.js", SCRIPT, include_str!("web/chart.js")),
    ("series.js", SCRIPT, include_str!("web/series.js")),
    ("fleet.js", SCRIPT, include_str!("web/fleet.js")),
    ("alerts.js", SCRIPT, include_str!("web/alerts.js")),
    ("box.js", SCRIPT, include_str!("web/box.js")),
    ("dashboard.js", SCRIPT, include_str!("web/dashboard.js")),
    ("driver.js", SCRIPT, include_str!("web/driver.js")),
];

/// A page for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Dashboard,
    Driver,
}

impl Page {
    /// The page at this path.
    pub fn at(path: &str) -> Option<Page> {
        [Page::Dashboard, Page::Driver].into_iter().find(|page| page.path() == path)
    }

    pub fn path(self) -> &'static str {
        match self {
            Page::Dashboard => "/",
            Page::Driver => "/driver",
        }
    }

    /// As whoever has logged in sees it; `None` where nobody needs to.
    pub fn html(self, holder: Option<&Holder>, can_log_out: bool) -> String {
        let page = match self {
            Page::Dashboard => include_str!("web/dashboard.html"),
            Page::Driver => include_str!("web/driver.html"),
        };
        let Some(Holder { name, role }) = holder else { return page.to_owned() };
        let body = format!("<body data-role=\"{role}\" data-name=\"{}\"", attribute(name));
        let page = page.replacen("<body", &body, 1);
        if can_log_out { page.replacen("<!--logout-->", LOGOUT, 1) } else { page }
    }
}

/// A file that belongs to the pages. A browser that has it is told so.
pub(super) fn file(path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let name = path.strip_prefix(FILES).unwrap_or_default();
    let Some((_, kind, text)) = ALL.iter().find(|(known, _, _)| *known == name) else {
        return reply(StatusCode::NOT_FOUND, TEXT, "no such file\n");
    };
    let tag = format!("\"{:08x}\"", crc32fast::hash(text.as_bytes()));
    let is_known = headers.get("if-none-match").is_some_and(|known| *known == *tag);
    let mut reply = match is_known {
        true => reply(StatusCode::NOT_MODIFIED, kind, Bytes::new()),
        false => reply(StatusCode::OK, kind, Bytes::from_static(text.as_bytes())),
    };
    let headers = reply.headers_mut();
    // A newer gateway has other files: a browser asks each time.
    headers.insert("cache-control", HeaderValue::from_static("no-cache"));
    headers.insert("etag", HeaderValue::try_from(tag).expect("digits"));
    reply
}

/// A text as the value of an attribute in quotes: the name in a certificate may be any text.
fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::role::Role;

    #[test]
    fn a_name_stays_a_name_on_the_page() {
        let holder = |name: &str, role| Holder { name: name.to_owned(), role };
        for page in [Page::Dashboard, Page::Driver] {
            let html = page.html(Some(&holder("CN=\"><script>'&<!--logout-->", Role::View)), true);
            let name = "CN=&quot;&gt;&lt;script&gt;&#39;&amp;&lt;!--logout--&gt;";
            assert!(html.contains(&format!("<body data-role=\"view\" data-name=\"{name}\"")));
            assert_eq!(html.matches("action=\"/logout\"").count(), 1, "{page:?}");
            let html = page.html(Some(&holder("anna", Role::Acknowledge)), false);
            assert!(html.contains("<body data-role=\"acknowledge\" data-name=\"anna\"") && !html.contains("/logout"));
            assert!(!page.html(None, false).contains("data-role"));
        }
    }

    /// The size that a slow link and a small box can take, and nothing from anywhere else.
    #[test]
    fn the_pages_are_small_and_load_nothing_from_elsewhere() {
        let pages = [Page::Dashboard, Page::Driver].map(|page| page.html(None, false));
        let all: Vec<&str> = ALL.iter().map(|(_, _, text)| *text).chain(pages.iter().map(String::as_str)).collect();
        let bytes: usize = all.iter().map(|text| text.len()).sum();
        assert!(bytes < 200_000, "{bytes} bytes");
        for text in &all {
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{text}");
        }
        for page in &pages {
            for (at, _) in page.match_indices(FILES) {
                let name = &page[at + FILES.len()..];
                let name = &name[..name.find('"').expect("a quoted path")];
                assert!(ALL.iter().any(|(known, _, _)| *known == name), "{name}");
            }
            assert!(!page.contains("<style") && !page.contains("style=") && !page.contains(" onclick"));
        }
        for (name, _, text) in ALL {
            let is_markup = ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("];
            assert!(!is_markup.iter().any(|way| text.contains(way)), "{name} writes markup");
        }
    }

    #[test]
    fn a_browser_that_has_a_file_is_not_sent_it_again() {
        let first = file("/web/link.js", &HeaderMap::new());
        assert_eq!(
            (first.status(), &first.headers()["cache-control"]),
            (StatusCode::OK, &HeaderValue::from_static("no-cache"))
        );
        let mut headers = HeaderMap::new();
        headers.insert("if-none-match", first.headers()["etag"].clone());
        assert_eq!(file("/web/link.js", &headers).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(file("/web/../mod.rs", &headers).status(), StatusCode::NOT_FOUND);
    }
}
