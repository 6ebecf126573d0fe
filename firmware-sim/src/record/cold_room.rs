//! A cooled room: air, goods, walls, a compressor that cycles, defrosts, doors.

use super::moment::approach;

/// Rates are in 1/s of the difference of two temperatures, or in K/s.
#[derive(Clone, Copy, Debug)]
pub struct RoomType {
    pub set_point: f64,
    /// The compressor runs between `set_point + band` and `set_point - band`.
    pub band: f64,
    pub walls: f64,
    pub goods: f64,
    pub door: f64,
    /// Of one stage and of two.
    pub cooling: [f64; 2],
    pub defrost: f64,
    /// Seconds in which the goods follow the air.
    pub goods_seconds: f64,
}

#[derive(Clone, Debug)]
pub struct ColdRoom {
    kind: RoomType,
    pub air: f64,
    goods: f64,
    /// Air behind the evaporator.
    pub supply: f64,
    /// Stages of the compressor that run: 0 to 2.
    pub stages: usize,
    /// Seconds since that changed.
    pub steady_seconds: u32,
    /// What is left of the refrigerating effect: 1, and less when refrigerant is missing.
    pub effect: f64,
}

/// A compressor rests for this long before it starts again.
const REST_SECONDS: u32 = 120;

impl ColdRoom {
    pub fn new(kind: RoomType) -> Self {
        ColdRoom {
            kind,
            air: kind.set_point,
            goods: kind.set_point,
            supply: kind.set_point,
            stages: 0,
            steady_seconds: REST_SECONDS,
            effect: 1.0,
        }
    }

    /// Degrees above the band.
    pub fn excess(&self) -> f64 {
        (self.air - self.kind.set_point - self.kind.band - 0.3).max(0.0)
    }

    pub fn step(&mut self, around: f64, is_door_open: bool, is_defrosting: bool) {
        let kind = self.kind;
        let over = self.air - kind.set_point;
        let wanted = if is_defrosting || over < -kind.band {
            0
        } else if over > 2.2 * kind.band {
            2
        } else if over > kind.band && self.stages == 0 {
            1
        } else {
            self.stages
        };
        let may_change = wanted == 0 || self.stages > 0 || self.steady_seconds >= REST_SECONDS;
        if wanted != self.stages && may_change {
            self.stages = wanted;
            self.steady_seconds = 0;
        } else {
            self.steady_seconds = self.steady_seconds.saturating_add(1);
        }
        // A compressor needs a minute to reach its effect.
        let started = (f64::from(self.steady_seconds) / 60.0).min(1.0);
        let cooling = match self.stages {
            0 => 0.0,
            1 => kind.cooling[0] * started,
            _ => kind.cooling[1],
        };
        let through_walls = kind.walls + if is_door_open { kind.door } else { 0.0 };
        let defrost = if is_defrosting { kind.defrost } else { 0.0 };
        self.air += through_walls * (around - self.air) + kind.goods * (self.goods - self.air) + defrost
            - cooling * self.effect;
        self.goods += (self.air - self.goods) / kind.goods_seconds;
        let behind = if is_defrosting { 9.0 } else { -5.5 * self.stages.min(1) as f64 * self.effect };
        approach(&mut self.supply, self.air + behind, if is_defrosting { 420.0 } else { 70.0 });
    }
}
