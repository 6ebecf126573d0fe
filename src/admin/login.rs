//! Logging in to the page with a token, which becomes a cookie, and logging out.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::access::{Access, COOKIE_NAME, CurrentAccess};
use super::origin::Hosts;
use super::tokens::Tokens;
use super::web::Page;
use super::{FOREIGN, TEXT, html, refuse_method, reply};

const FORM_PAGE: &str = include_str!("login.html");
const FORM_BYTES_MAX: usize = 4096;
const UNKNOWN: &str = "<p class=\"bad\">This token is not known here.</p>";

/// Whether somebody wants to be told nothing any more.
pub(super) fn is_logout(request: &Request<Incoming>, hosts: &Hosts) -> bool {
    *request.method() == Method::POST && request.uri().path() == "/logout" && hosts.is_from_us(request.headers())
}

/// Answers `/login` and `/logout`, where there are tokens; gives any other request back.
pub(super) async fn answer(
    request: Request<Incoming>,
    access: &Access,
    current: &CurrentAccess,
    hosts: &Hosts,
) -> Result<Response<Full<Bytes>>, Request<Incoming>> {
    let Some(tokens) = &access.tokens else { return Err(request) };
    let is_login = match request.uri().path() {
        "/login" => true,
        "/logout" => false,
        _ => return Err(request),
    };
    Ok(match *request.method() {
        // Where a browser is after a wrong token, or by its history.
        Method::GET | Method::HEAD => to_page(Page::Dashboard, None),
        Method::POST if !hosts.is_from_us(request.headers()) => reply(StatusCode::FORBIDDEN, TEXT, FOREIGN),
        Method::POST if is_login => log_in(request, access, tokens, current).await,
        Method::POST => to_page(Page::Dashboard, Some(&cookie("", access.tls.is_some()))),
        _ => refuse_method("GET, HEAD, POST"),
    })
}

async fn log_in(
    request: Request<Incoming>,
    access: &Access,
    tokens: &Tokens,
    current: &CurrentAccess,
) -> Response<Full<Bytes>> {
    let Ok(body) = Limited::new(request.into_body(), FORM_BYTES_MAX).collect().await else {
        return reply(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "too large\n");
    };
    let body = body.to_bytes();
    let token = field_of(&body, "token").unwrap_or_default();
    let page = field_of(&body, "page").and_then(|path| Page::at(&path)).unwrap_or(Page::Dashboard);
    match tokens.holder(&token) {
        Some(_) => to_page(page, Some(&cookie(&token, access.tls.is_some()))),
        None => {
            current.logins_refused().add(1);
            form(true, page, access)
        }
    }
}

/// The page on which a token is asked for; after a wrong one it says so, and the browser forgets it.
pub(super) fn form(is_after_wrong_one: bool, page: Page, access: &Access) -> Response<Full<Bytes>> {
    let problem = if is_after_wrong_one { UNKNOWN } else { "" };
    let form = FORM_PAGE.replace("<!--problem-->", problem).replace("<!--page-->", page.path());
    let mut reply = html(StatusCode::UNAUTHORIZED, form);
    challenge(reply.headers_mut());
    if is_after_wrong_one {
        set_cookie(&mut reply, &cookie("", access.tls.is_some()));
    }
    reply
}

/// Says how one logs in, as each 401 has to.
pub(super) fn challenge(headers: &mut HeaderMap) {
    headers.insert("www-authenticate", HeaderValue::from_static("Bearer"));
}

fn to_page(page: Page, cookie: Option<&str>) -> Response<Full<Bytes>> {
    let mut reply = reply(StatusCode::SEE_OTHER, TEXT, format!("see {}\n", page.path()));
    reply.headers_mut().insert("location", HeaderValue::from_static(page.path()));
    if let Some(cookie) = cookie {
        set_cookie(&mut reply, cookie);
    }
    reply
}

fn set_cookie(reply: &mut Response<Full<Bytes>>, cookie: &str) {
    reply.headers_mut().insert("set-cookie", cookie.parse().expect("a token fits into a cookie"));
}

/// What makes a browser keep the token until it is closed, or forget it if it is empty. Scripts cannot read it, and requests that begin at pages
/// of other sites do not carry it.
fn cookie(token: &str, is_encrypted: bool) -> String {
    let age = if token.is_empty() { "; Max-Age=0" } else { "" };
    let secure = if is_encrypted { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={token}; HttpOnly; SameSite=Strict; Path=/{age}{secure}")
}

/// A field of a form (application/x-www-form-urlencoded), without what came along when it was copied.
fn field_of(form: &[u8], name: &str) -> Option<String> {
    let form = std::str::from_utf8(form).ok()?;
    let value = form.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='))?.replace('+', " ");
    Some(percent_decode_str(&value).decode_utf8().ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_this_site_and_out_of_reach_of_scripts() {
        assert_eq!(cookie("t", false), "outrider_token=t; HttpOnly; SameSite=Strict; Path=/");
        assert_eq!(cookie("t", true), "outrider_token=t; HttpOnly; SameSite=Strict; Path=/; Secure");
        assert_eq!(cookie("", false), "outrider_token=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    }

    #[test]
    fn the_token_of_a_form_is_found() {
        for (form, token) in [
            ("token=abc", Some("abc")),
            ("a=b&token=a%2Bb%3D", Some("a+b=")),
            ("token=+abc%0D%0A", Some("abc")),
            ("token=", Some("")),
            ("tokens=abc", None),
            ("{\"token\":\"abc\"}", None),
            ("token=%ff", None),
        ] {
            assert_eq!(field_of(form.as_bytes(), "token").as_deref(), token, "{form}");
        }
    }
}
