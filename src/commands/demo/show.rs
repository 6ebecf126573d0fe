//! The running demonstration: turns events of the vehicles, the driver's display and the clock into what is printed.

use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use firmware_sim::fleet::FleetEvent;
use firmware_sim::ground_truth::GroundTruth;
use firmware_sim::ledger::Acknowledged;
use tokio::sync::watch;

use super::figures::{Figures, FiguresReader};
use super::matching::{AlertHeard, Heard, Scoreboard};
use super::narrate;
use super::schedule::Plan;
use super::screen::{Screen, count, short_time};
use crate::sinks::status::Link;

/// Figures are printed this long after the vehicles are live, and after each cut begins.
const LIVE_TOLD_AFTER: Duration = Duration::from_secs(2);
const CUT_TOLD_AFTER: Duration = Duration::from_secs(6);
/// The rate is averaged over this many looks.
const RATE_LOOKS: usize = 30;
/// If nothing is acknowledged for this many looks (half a minute), something is wrong. Counts looks, not time, because a suspended process
/// has not waited.
const STALLED_LOOKS: u32 = 300;

pub struct Show<W: Write> {
    pub screen: Screen<W>,
    pub board: Scoreboard,
    plan: Plan,
    length: Option<Duration>,
    figures: FiguresReader,
    acknowledged: Acknowledged,
    link: watch::Sender<Link>,
    link_is: LinkIs,
    cuts: u32,
    live_since: Option<Duration>,
    told: Told,
    /// Time and number of acknowledged readings at the last looks.
    looks: VecDeque<(Duration, u64)>,
    idle_looks: u32,
}

#[derive(Clone, Debug)]
enum LinkIs {
    Up,
    Down {
        cut: Range<Duration>,
    },
    /// The link is up again, and the backlog is being delivered.
    Draining {
        since: Duration,
        buffered: u64,
        stored: u64,
    },
}

/// Which figures have been printed as lines of their own.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    live: bool,
    cut: u32,
}

/// The parts of the demonstration.
pub struct Parts<W: Write> {
    pub screen: Screen<W>,
    pub board: Scoreboard,
    pub plan: Plan,
    pub length: Option<Duration>,
    pub figures: FiguresReader,
    pub acknowledged: Acknowledged,
    pub link: watch::Sender<Link>,
}

impl<W: Write> Show<W> {
    pub fn new(parts: Parts<W>) -> Show<W> {
        let Parts { screen, board, plan, length, figures, acknowledged, link } = parts;
        Show {
            screen,
            board,
            plan,
            length,
            figures,
            acknowledged,
            link,
            link_is: LinkIs::Up,
            cuts: 0,
            live_since: None,
            told: Told::default(),
            looks: VecDeque::new(),
            idle_looks: 0,
        }
    }

    /// Its time is over, and everything planned has happened.
    pub fn is_over(&self) -> bool {
        let over = self.length.zip(self.live_since);
        over.is_some_and(|(length, live)| self.screen.elapsed() >= length.max(live + self.plan.over_after))
    }

    /// The vehicles wait for acknowledgements that do not come.
    pub fn is_stalled(&self) -> bool {
        self.idle_looks >= STALLED_LOOKS
    }

    pub fn fleet_event(&mut self, event: FleetEvent) {
        let now = self.screen.elapsed();
        match event {
            FleetEvent::Connected { .. } | FleetEvent::NotConnected { .. } => {}
            FleetEvent::Disconnected { device } => {
                self.screen.event("vehicle", &format!("{device} lost its connection"))
            }
            FleetEvent::HistoryDone { readings_acknowledged } => {
                self.screen.event("history", &narrate::history(readings_acknowledged, now));
            }
            FleetEvent::LiveStarted { .. } => {
                self.live_since = Some(now);
                self.looks.clear();
            }
            FleetEvent::FaultStarted(truth) => self.fault_started(truth, now),
            FleetEvent::FaultEnded(truth) => self.board.fault_ended(&truth, now),
        }
    }

    fn fault_started(&mut self, truth: GroundTruth, now: Duration) {
        self.screen.event("FAULT", &narrate::fault(&truth));
        self.board.fault_started(truth, now);
    }

    pub fn alert(&mut self, alert: &AlertHeard) {
        let text = narrate::alert(alert);
        let link = if matches!(self.link_is, LinkIs::Down { .. }) { ", link still down" } else { "" };
        match self.board.hear(alert, self.screen.elapsed()) {
            Heard::Found { after } => {
                self.screen.event("ALERT", &format!("{text}, {} after the fault{link}", short_time(after)));
            }
            Heard::FalseAlarm => self.screen.event("FALSE", &format!("alarm: {text}, and we have done nothing")),
            Heard::Other => self.screen.event("ALERT", &format!("{text}, a device that is not ours")),
            Heard::GoesOn => {}
        }
    }

    /// Updates everything that depends on time.
    pub fn tick(&mut self) -> rusqlite::Result<()> {
        let now = self.screen.elapsed();
        let acknowledged = self.acknowledged.readings();
        let is_idle = self.looks.back().is_some_and(|(_, before)| *before == acknowledged);
        self.idle_looks = if is_idle { self.idle_looks + 1 } else { 0 };
        if self.looks.len() == RATE_LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back((now, acknowledged));
        let Some(live_since) = self.live_since else {
            self.screen.status("history", &format!("{} readings so far", count(acknowledged)));
            return Ok(());
        };
        self.move_link(now - live_since)?;
        self.tell_figures(now, now - live_since)
    }

    fn move_link(&mut self, live_for: Duration) -> rusqlite::Result<()> {
        match self.link_is.clone() {
            LinkIs::Down { cut } if live_for >= cut.end => self.link_back(),
            LinkIs::Down { .. } => Ok(()),
            LinkIs::Draining { since, buffered, stored } => {
                // Delivery is in order, so this means that everything buffered when the link came back is delivered.
                if self.figures.read()?.delivered >= stored {
                    self.link_is = LinkIs::Up;
                    let took = short_time(self.screen.elapsed() - since);
                    self.screen.event("LINK BACK", &format!("{} buffered, drained in {took}", count(buffered)));
                }
                Ok(())
            }
            LinkIs::Up => {
                if let Some(cut) = self.plan.cut(self.cuts).filter(|cut| live_for >= cut.start) {
                    self.link.send_replace(Link::Down);
                    self.cuts += 1;
                    let length = (cut.end - cut.start).as_secs();
                    self.link_is = LinkIs::Down { cut };
                    let text = format!("on purpose, for {length} s; watch the buffer grow, alerts still work");
                    self.screen.event("LINK CUT", &text);
                }
                Ok(())
            }
        }
    }

    fn link_back(&mut self) -> rusqlite::Result<()> {
        self.link.send_replace(Link::Up);
        let Figures { stored, buffered, .. } = self.figures.read()?;
        self.link_is = LinkIs::Draining { since: self.screen.elapsed(), buffered, stored };
        Ok(())
    }

    /// The end, possibly in the middle of a cut.
    pub fn finish(&mut self) -> rusqlite::Result<()> {
        if matches!(self.link_is, LinkIs::Down { .. }) {
            self.link_back()?;
        }
        if let LinkIs::Draining { buffered, .. } = self.link_is {
            self.screen.event("LINK BACK", &format!("{} buffered, drained below", count(buffered)));
        }
        self.link_is = LinkIs::Up;
        Ok(())
    }

    fn tell_figures(&mut self, now: Duration, live_for: Duration) -> rusqlite::Result<()> {
        if self.screen.is_terminal() {
            let label = if matches!(self.link_is, LinkIs::Down { .. }) { "link down" } else { "live" };
            let text = narrate::figures(self.rate(now), self.figures.read()?);
            self.screen.status(label, &text);
            return Ok(());
        }
        if !self.told.live && live_for >= LIVE_TOLD_AFTER {
            self.told.live = true;
            let text = narrate::figures(self.rate(now), self.figures.read()?);
            self.screen.event("live", &text);
        }
        if let LinkIs::Down { cut } = &self.link_is
            && self.told.cut < self.cuts
            && live_for >= cut.start + CUT_TOLD_AFTER
        {
            self.told.cut = self.cuts;
            let text = narrate::figures(self.rate(now), self.figures.read()?);
            self.screen.event("link down", &text);
        }
        Ok(())
    }

    /// Readings acknowledged per second, recently.
    fn rate(&self, now: Duration) -> f64 {
        let Some((then, before)) = self.looks.front().copied().filter(|(then, _)| *then < now) else {
            return 0.0;
        };
        (self.acknowledged.readings() - before) as f64 / (now - then).as_secs_f64()
    }
}
