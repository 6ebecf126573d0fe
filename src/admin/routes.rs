//! What is served: each path with its method. `config/schema/openapi.json` describes the same, and a test compares the two.

use hyper::Method;

/// What answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Dashboard,
    Driver,
    File,
    Health,
    Ready,
    Metrics,
    OpenApi,
    Status,
    Events,
    Alerts,
    Rules,
    Devices,
    Values,
    ListSeries,
    ExplainSeries,
    History,
    /// Changes something, or logs in or out: found by its own module.
    Other,
}

/// All of it. Where two could answer, the first does.
const ROUTES: &[(Method, &str, Route)] = &[
    (Method::GET, "/", Route::Dashboard),
    (Method::GET, "/driver", Route::Driver),
    (Method::GET, "/web/{file}", Route::File),
    (Method::GET, "/healthz", Route::Health),
    (Method::GET, "/readyz", Route::Ready),
    (Method::GET, "/metrics", Route::Metrics),
    (Method::GET, "/api/openapi.json", Route::OpenApi),
    (Method::GET, "/api/status", Route::Status),
    (Method::GET, "/api/events", Route::Events),
    (Method::GET, "/api/alerts", Route::Alerts),
    (Method::GET, "/api/rules", Route::Rules),
    (Method::GET, "/api/devices", Route::Devices),
    (Method::GET, "/api/values", Route::Values),
    (Method::GET, "/api/series", Route::ListSeries),
    (Method::GET, "/api/series/{device}/{metric}", Route::ExplainSeries),
    (Method::GET, "/api/series/{device}/{metric}/history", Route::History),
    (Method::POST, "/api/alerts/{device}/{metric}/{kind}/ack", Route::Other),
    (Method::DELETE, "/api/alerts/{device}/{metric}/{kind}", Route::Other),
    (Method::DELETE, "/api/series/{device}", Route::Other),
    (Method::DELETE, "/api/series/{device}/{metric}", Route::Other),
    (Method::DELETE, "/api/sinks/{name}", Route::Other),
    (Method::POST, "/api/dead-letters/{sink}", Route::Other),
    (Method::POST, "/api/dead-letters/{sink}/{id}", Route::Other),
    (Method::POST, "/api/reload", Route::Other),
    (Method::GET, "/login", Route::Other),
    (Method::POST, "/login", Route::Other),
    (Method::GET, "/logout", Route::Other),
    (Method::POST, "/logout", Route::Other),
];

/// What answers a question (GET, HEAD) at this path; `None` if nothing does.
pub(super) fn find(path: &str) -> Option<Route> {
    let found = ROUTES.iter().find(|(method, template, _)| *method == Method::GET && is_of(path, template));
    found.map(|(_, _, route)| *route).filter(|route| *route != Route::Other)
}

/// Methods and paths of all, in the form that OpenAPI has.
pub fn served() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|(method, template, _)| (method.as_str(), *template))
}

fn is_of(path: &str, template: &str) -> bool {
    let (mut levels, mut expected) = (path.split('/'), template.split('/'));
    loop {
        match (levels.next(), expected.next()) {
            (None, None) => return true,
            (Some(level), Some(name)) if name.starts_with('{') || level == name => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_its_levels() {
        for (path, route) in [
            ("/", Some(Route::Dashboard)),
            ("/web/chart.js", Some(Route::File)),
            ("/api/series", Some(Route::ListSeries)),
            ("/api/series/a/b%2Fc", Some(Route::ExplainSeries)),
            ("/api/series/a", None),
            ("/api/series/a/b/c", None),
            ("/api/sinks/a", None),
            ("/login", None),
            ("", None),
            ("/api/", None),
            ("//", None),
        ] {
            assert_eq!(find(path), route, "{path}");
        }
    }

    #[test]
    fn nothing_is_served_twice() {
        let mut all: Vec<_> = served().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ROUTES.len());
    }
}
