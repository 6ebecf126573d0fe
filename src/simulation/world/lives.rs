//! The beginning and the orderly end of a process.

use super::{Happening, SECOND, World};
use crate::core::identity::RunId;
use crate::pipeline::{CommitPacing, Message};
use crate::simulation::gateway::{Gateway, Site, StartError};
use crate::simulation::scenario::{Config, Sabotage};
use crate::sinks::status::Link;
use crate::store::opening::Opened;

/// How long an orderly end may take.
const GRACE_US: u64 = 10 * SECOND;
/// How often it is tried again to open a store that the disk keeps from being opened.
const REOPEN_US: u64 = SECOND;
/// Whoever watches the process starts it again after so long.
const RESTART_US: u64 = 2 * SECOND;

impl World {
    /// Now and then a process begins with another configuration.
    pub(super) fn choose_config(&mut self) {
        if !self.is_healed && self.random.percent(30) {
            self.config = Config::any(self.is_small, &mut self.random);
            let config = self.config.clone();
            self.note(format_args!("{config:?}"));
        }
    }

    /// With a run id of its own.
    fn site<R>(&mut self, act: impl FnOnce(&mut World, &Site<'_>) -> R) -> R {
        let run = RunId(self.random.next().to_be_bytes());
        let config = self.config.clone();
        let acknowledge_early = self.scenario.sabotage == Some(Sabotage::AcknowledgesEarly);
        let (folder, vfs) = (self.folder.path().to_owned(), self.disk.vfs());
        let site = Site {
            folder: &folder,
            vfs: &vfs,
            config: &config,
            pacing: CommitPacing { acknowledge_early, ..CommitPacing::default() },
            run,
            seed: self.random.next(),
            now_us: self.now_us,
        };
        act(self, &site)
    }

    pub(super) fn boot(&mut self) -> Result<(), String> {
        if self.gateway.is_some() {
            return Ok(());
        }
        self.refused_before = self.disk.refused();
        self.site(|world, site| match site.open() {
            _ if world.has_died() => Ok(()),
            Ok(opened) => world.start(site, Some(opened)),
            Err(error) if error.is_of_the_disk() => {
                world.note(format_args!("without a store: {error}"));
                world.start(site, None)?;
                world.after(REOPEN_US, Happening::Reopen { life: world.life });
                Ok(())
            }
            Err(error) => world.fails_to_start(&StartError::Open(error)),
        })
    }

    /// A process ends with an error where its disk does; where nothing fails it may not.
    fn fails_to_start(&mut self, error: &StartError) -> Result<(), String> {
        self.note(format_args!("cannot start: {error}"));
        self.count_refusals();
        if self.disk.refused() == self.refused_before {
            return Err(format!("the gateway does not start: {error}"));
        }
        self.after(RESTART_US, Happening::Boot);
        Ok(())
    }

    fn start(&mut self, site: &Site<'_>, opened: Option<Opened>) -> Result<(), String> {
        let has_store = opened.is_some();
        let gateway = match site.start(opened) {
            Ok(gateway) => gateway,
            Err(_) if self.has_died() => return Ok(()),
            Err(error) => return self.fails_to_start(&error),
        };
        self.count_refusals();
        self.note(format_args!("starts, with a store: {has_store}"));
        self.lines.begin_run(site.run.to_string());
        let sinks: &[usize] = if has_store { &site.config.sinks } else { &[] };
        self.checks.begin_life(sinks);
        self.gateway = Some(gateway);
        Ok(())
    }

    /// The store could not be opened at the start. When it can, everything begins again, with it.
    pub(super) fn reopen(&mut self) -> Result<(), String> {
        if self.gateway.as_ref().is_none_or(|gateway| gateway.store.is_some()) {
            return Ok(());
        }
        self.site(|world, site| match site.open() {
            _ if world.has_died() => Ok(()),
            Ok(opened) => {
                world.gateway = None;
                world.life += 1;
                world.checks.end_life();
                world.devices.iter_mut().for_each(|device| device.disconnect());
                world.start(site, Some(opened))
            }
            Err(error) if error.is_of_the_disk() => {
                world.after(REOPEN_US, Happening::Reopen { life: world.life });
                Ok(())
            }
            Err(error) => Err(format!("the store cannot be opened: {error:?}")),
        })
    }

    /// An orderly end begins: no client is served any more, and the sinks send what is committed.
    pub(super) fn stop(&mut self) {
        let Some(gateway) = self.gateway.as_mut().filter(|_| !self.is_stopping) else { return };
        self.is_stopping = true;
        let until = self.began + std::time::Duration::from_micros(self.now_us + GRACE_US);
        gateway.sender.send(Message::Draining { until }).expect("the pipeline is there");
        for link in &gateway.links {
            link.send_replace(Link::Ending);
        }
        self.count("restart");
        self.devices.iter_mut().for_each(|device| device.disconnect());
        self.tell_forwarders_of_links();
        let life = self.life;
        self.after(2 * GRACE_US, Happening::EndBy { life });
    }

    /// Once the sinks have ended, the pipeline may.
    pub(super) fn go_on_stopping(&mut self) {
        let Some(gateway) = self.gateway.as_mut().filter(|_| self.is_stopping) else { return };
        let is_flushed = gateway.store.as_ref().is_none_or(|store| store.forwarders.is_empty());
        if is_flushed && !gateway.is_shut_down {
            gateway.is_shut_down = true;
            let until = self.began + std::time::Duration::from_micros(self.now_us + GRACE_US / 2);
            gateway.sender.send(Message::Shutdown { until }).expect("the pipeline is there");
        }
        let is_idle = gateway.store.as_ref().is_none_or(|store| store.under_way.is_none());
        if gateway.has_ended && is_idle {
            if let Some(Gateway { store: Some(store), .. }) = &mut self.gateway {
                // A store that cannot be checkpointed is recovered at the next start.
                let _ = store.committer.writer.checkpoint();
            }
            if !self.has_died() {
                self.end_life(None);
            }
        }
    }
}
