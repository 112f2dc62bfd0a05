//! May a request enter, and as which jobs.
//!
//! First what the request says, field by field, then how the pool is. A refusal names the field or
//! the state, and says with a number when trying again may help.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceWish, JobId};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::action::{Accepted, Action, Parameters, Progress};
use crate::aftermath::quarantined;
use crate::drain::draining;
use crate::event::Ticket;
use crate::job::{Job, Stage, cost_of, text_bytes};
use crate::model::{Model, ModelId};
use crate::moment::Moment;
use crate::parameters::resolve;
use crate::pool::Pool;
use crate::quarantine::Fingerprint;
use crate::queue::Place;
use crate::registry::Files;
use crate::room::{Room, Shortage};
use crate::turn::Turn;

impl Pool {
    pub(crate) fn request_arrived(
        &mut self,
        turn: &mut Turn,
        ticket: Ticket,
        request: ImageRequest,
        user: &str,
        entropy: u64,
    ) {
        let (model, parameters, wish) = match self.admit(turn.now, &request, entropy) {
            Ok(admitted) => admitted,
            Err(failure) => return turn.refuse(ticket, failure),
        };
        let jobs: Vec<JobId> = (1..=u64::from(request.count))
            .map(|nth| JobId(self.job_ids + nth))
            .collect();
        self.job_ids += u64::from(request.count);
        turn.act(Action::Accept(Accepted {
            ticket,
            jobs: jobs.clone(),
            model: self.model(model).spec.key.clone(),
            size: parameters.size,
            steps: parameters.steps,
            guidance: parameters.guidance,
            seed: parameters.seed,
            decode: self.model(model).pace.decode(),
        }));
        let mut parameters = parameters;
        for &id in &jobs {
            let next = parameters.seed.wrapping_add(1);
            self.enter(
                turn.now,
                id,
                model,
                &request,
                ticket,
                user,
                parameters.clone(),
                wish,
            );
            parameters.seed = next;
        }
        self.settle(turn);
        for id in jobs {
            self.tell_place(turn, id);
        }
    }

    /// What the request became, or why it may not enter.
    fn admit(
        &self,
        now: Moment,
        request: &ImageRequest,
        entropy: u64,
    ) -> Result<(ModelId, Parameters, DeviceWish), Failure> {
        request.check()?;
        let name = request
            .model
            .as_deref()
            .unwrap_or(&self.settings.default_model);
        let id = self
            .find_model(name)
            .ok_or_else(|| self.unknown_model(name))?;
        self.check_files(now, id)?;
        let parameters = resolve(&self.model(id).spec, &self.settings, request, entropy)?;
        self.check_count(request.count)?;
        self.check_device(id, request.device)?;
        self.check_state(now, id, &parameters)?;
        let wish = self.check_room(id, &parameters, request.device)?;
        self.check_queue(now, id, request, &parameters, wish)?;
        self.check_deadline(id, request, &parameters)?;
        Ok((id, parameters, wish))
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what makes a job")]
    fn enter(
        &mut self,
        now: Moment,
        id: JobId,
        model: ModelId,
        request: &ImageRequest,
        ticket: Ticket,
        user: &str,
        parameters: Parameters,
        wish: DeviceWish,
    ) {
        let place = Place {
            job: id,
            priority: request.priority,
            user: user.into(),
            cost: cost_of(&parameters),
        };
        let timeout = request.timeout_ms.map(Duration::from_millis);
        let deadline = timeout.map(|timeout| now + timeout);
        if let Some(deadline) = deadline {
            self.timers.insert((deadline, id));
        }
        self.waiting_bytes += text_bytes(&parameters);
        let waits = &mut self.models[model.0];
        waits.queue.push(&place);
        if wish != DeviceWish::Auto {
            waits.wishing.insert(id);
        }
        let job = Job {
            model,
            ticket,
            detached: request.detached,
            place,
            parameters,
            device: wish,
            accepted: now,
            deadline,
            stage: Stage::Waiting { since: now },
            attempts: 0,
            losses: Vec::new(),
            fruitless: 0,
            out_of_memory: 0,
            salvaged: 0,
            overtaken: 0,
            more_room: Mebibytes::ZERO,
            first_start: None,
        };
        self.jobs.insert(id, job);
    }

    fn tell_place(&self, turn: &mut Turn, id: JobId) {
        let Some(job) = self
            .jobs
            .get(&id)
            .filter(|job| job.waiting_since().is_some())
        else {
            return;
        };
        let before = self.model(job.model).queue.before(id).count();
        let position = u32::try_from(before + 1).unwrap_or(u32::MAX);
        let reason = self.waiting_reason(turn.now, job);
        turn.report(id, Progress::Waiting { position, reason });
    }

    pub(crate) fn unknown_model(&self, name: &str) -> Failure {
        let offered = self.models.iter().filter(|model| !model.retired);
        let names = offered.map(|model| model.spec.key.as_str());
        let near = names.filter(|offered| distance(name, offered) <= offered.len() / 2 + 1);
        let nearest = near.min_by_key(|offered| distance(name, offered));
        let hint = nearest.map(|nearest| format!("; the nearest name is {nearest}"));
        let hint = hint.unwrap_or_default();
        let shown: String = name.chars().take(80).collect();
        Failure {
            field: Some(Field::Model),
            ..Failure::new(
                FailureKind::UnknownModel,
                format!("there is no model called {shown:?}{hint}"),
            )
        }
    }

    /// More images than may ever wait at once can never be let in.
    fn check_count(&self, count: u32) -> Result<(), Failure> {
        let limits = [
            ("pool.queue_per_model", self.settings.queue_per_model),
            ("pool.queue_total", self.settings.queue_total),
        ];
        let [one, two] = limits;
        let (name, most) = if one.1 <= two.1 { one } else { two };
        match count as usize > most {
            true => Err(Failure::bad_value(
                Field::Count,
                format!("{count} pictures at once are more than the {most} that may wait ({name})"),
            )),
            false => Ok(()),
        }
    }

    fn check_device(&self, id: ModelId, wish: DeviceWish) -> Result<(), Failure> {
        let DeviceWish::On(device) = wish else {
            return Ok(());
        };
        let place = device.placement();
        if !self.budget.devices().any(|known| known == device) {
            return Err(Failure::bad_value(
                Field::Device,
                format!("there is no {place} here"),
            ));
        }
        let spec = &self.model(id).spec;
        match spec.residency_on(device) {
            Some(_) => Ok(()),
            None => Err(Failure::bad_value(
                Field::Device,
                format!("{} cannot run on {place}", spec.key),
            )),
        }
    }

    /// What a model allows is known from its files: where these cannot be read, nothing can be said of
    /// a request.
    fn check_files(&self, now: Moment, id: ModelId) -> Result<(), Failure> {
        match &self.model(id).spec.files {
            Files::Unread | Files::Broken(_) if self.phase.refuses() => Err(draining()),
            Files::Unread | Files::Broken(_) => self.refusal(id, now).map_or(Ok(()), Err),
            Files::Here { .. } | Files::Missing(_) => Ok(()),
        }
    }

    fn check_state(
        &self,
        now: Moment,
        id: ModelId,
        parameters: &Parameters,
    ) -> Result<(), Failure> {
        if self.phase.refuses() {
            return Err(draining());
        }
        let model = self.model(id);
        let broken = |failure: &Failure| match failure.kind {
            FailureKind::LoadRefused | FailureKind::ModelUnusable => {
                self.live(model).next().is_none()
            }
            _ => true,
        };
        if let Some(failure) = self.refusal(id, now).filter(broken) {
            return Err(failure);
        }
        if !self.quarantine.is_empty() {
            let fingerprint = Fingerprint::of(&model.spec.digest, parameters);
            let lasts = self.settings.quarantine;
            if let Some((evidence, left)) = self.quarantine.find(&fingerprint, now, lasts) {
                let told = evidence.deaths.join("; ");
                return Err(quarantined(&fingerprint.name(), &told, left));
            }
        }
        Ok(())
    }

    /// Refuses at once what can have no room even with everything else gone that may go. Where only
    /// some devices have that much, the job is for the best of them.
    fn check_room(
        &self,
        id: ModelId,
        parameters: &Parameters,
        wish: DeviceWish,
    ) -> Result<DeviceWish, Failure> {
        let model = self.model(id);
        let size = parameters.size;
        let places = self.places(model, wish);
        if places.is_empty() {
            let message = format!("no device that is usable now can run {}", model.spec.key);
            return Err(Failure::new(FailureKind::MemoryExhausted, message));
        }
        let rooms = places
            .iter()
            .map(|&device| (device, self.room_at_best(id, device, size)));
        let (able, unable): (Vec<_>, Vec<_>) = rooms.partition(|(_, short)| short.is_none());
        match (able.first(), unable.first()) {
            (Some(_), None) => Ok(wish),
            (Some(&(device, _)), Some(_)) => Ok(DeviceWish::On(device)),
            (None, _) => Err(self.cannot_fit(id, size, wish, unable.into_iter().find_map(|u| u.1))),
        }
    }

    /// Where a picture of `size` could not be drawn on `device`: by a worker that is there, or by
    /// one more.
    fn room_at_best(&self, id: ModelId, device: Device, size: PictureSize) -> Option<Shortage> {
        let model = self.model(id);
        let extra = model.extra_for(device, size, Mebibytes::ZERO);
        let short = |room: Room| match room {
            Room::Never(short) => Some(short),
            Room::Free | Room::Leaving | Room::Evict(_) | Room::Later => None,
        };
        let there = self.live(model).filter(|worker| worker.device == device);
        let by_one_there = there.map(|w| short(self.room(extra, id, Some(w.generation))));
        if by_one_there.into_iter().any(|short| short.is_none()) {
            return None;
        }
        let base = model.need_on(device, &self.settings)?;
        short(self.room(base.plus(extra), id, None))
    }

    fn cannot_fit(
        &self,
        id: ModelId,
        size: PictureSize,
        wish: DeviceWish,
        short: Option<Shortage>,
    ) -> Failure {
        match (self.room_for_worker(id, wish), short) {
            (Some((_, Room::Never(base))), _) if self.live(self.model(id)).next().is_none() => {
                self.memory_exhausted(id, base)
            }
            (_, Some(short)) => self.never_fits(id, size, short),
            (_, None) => Failure::new(FailureKind::NeverFits, format!("{size} never fits")),
        }
    }

    fn check_queue(
        &self,
        now: Moment,
        id: ModelId,
        request: &ImageRequest,
        parameters: &Parameters,
        wish: DeviceWish,
    ) -> Result<(), Failure> {
        let model = self.model(id);
        let wanted = request.count as usize;
        let idle = self.can_run_at_once(now, id, parameters, wish);
        let waiting = model.queue.len() + wanted.saturating_sub(idle);
        let full = |what: String| {
            let after = self.slot_free_in(model, now);
            let after_ms = u64::try_from(after.as_millis())
                .unwrap_or(u64::MAX)
                .max(1000);
            Failure::new(FailureKind::QueueFull, what).retry_after_ms(after_ms)
        };
        let max = self.settings.queue_per_model;
        if waiting > max {
            let key = &model.spec.key;
            let there = model.queue.len();
            return Err(full(format!(
                "queue full: {there} of {max} places for {key} are taken, {wanted} wanted"
            )));
        }
        let all: usize = self.models.iter().map(|model| model.queue.len()).sum();
        let max = self.settings.queue_total;
        if all + wanted.saturating_sub(idle) > max {
            return Err(full(format!(
                "queue full: {all} of {max} places in all are taken, {wanted} wanted"
            )));
        }
        let bytes = self.waiting_bytes + text_bytes(parameters) * wanted;
        let max = self.settings.queue_bytes;
        if bytes > max {
            return Err(full(format!(
                "queue full: {bytes} bytes of text would wait, {max} may"
            )));
        }
        Ok(())
    }

    /// Images of a request that need no place in the queue, because idle workers take them.
    fn can_run_at_once(
        &self,
        now: Moment,
        id: ModelId,
        parameters: &Parameters,
        wish: DeviceWish,
    ) -> usize {
        let model = self.model(id);
        let usual = parameters.size.pixels() <= model.spec.default_size.pixels();
        let anywhere = wish == DeviceWish::Auto;
        let nobody_lacks = self.models.iter().all(|model| model.lacks.is_empty());
        match usual && anywhere && nobody_lacks && model.queue.is_empty() {
            true => self.takers(id, now).len(),
            false => 0,
        }
    }

    /// Refuses what cannot be done in time even if nothing came between.
    fn check_deadline(
        &self,
        id: ModelId,
        request: &ImageRequest,
        parameters: &Parameters,
    ) -> Result<(), Failure> {
        let Some(timeout) = request.timeout_ms else {
            return Ok(());
        };
        let model = self.model(id);
        let least = self.least_time(model, parameters);
        let least_ms = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
        if least_ms <= timeout {
            return Ok(());
        }
        let message = format!(
            "cannot be done within {timeout} ms: {} jobs wait before it and it takes at least {least_ms} ms",
            model.queue.len()
        );
        Err(Failure {
            field: Some(Field::Timeout),
            ..Failure::new(FailureKind::DeadlineExceeded, message)
        })
    }

    /// The shortest time in which a job of these parameters can be done, as far as is known.
    fn least_time(&self, model: &Model, parameters: &Parameters) -> Duration {
        let pixels = parameters.size.pixels();
        let own = model
            .pace
            .picture(pixels, parameters.steps)
            .unwrap_or_default();
        if self.live(model).any(|worker| worker.is_resident()) {
            return own;
        }
        own + model.pace.load().unwrap_or_default() / 2
    }

    /// When a place in a full queue is likely to be free.
    fn slot_free_in(&self, model: &Model, now: Moment) -> Duration {
        let rests = self
            .live(model)
            .filter_map(|worker| model.pace.rest(worker.attempt()?, now));
        rests.min().unwrap_or(Duration::from_secs(1))
    }
}

/// Letters to change, add or drop to make one word of the other.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (
        one.chars().take(80).collect(),
        two.chars().take(80).collect(),
    );
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let changed = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[two.len()]
}
