//! The choice of a few previews of a picture.

/// Chooses previews at steps that divide the picture's steps evenly.
#[derive(Debug, Clone)]
pub(super) struct PartialPlan {
    /// The steps that are due, in order.
    due: Vec<u32>,
    /// Previews chosen so far.
    sent: usize,
}

impl PartialPlan {
    /// A plan for `count` previews of a picture of `steps` steps. The last step has none: the picture follows.
    pub fn new(count: usize, steps: u32) -> Self {
        let most = steps.saturating_sub(1).min(count as u32);
        let step = |nth: u32| (nth * steps).div_ceil(most + 1).clamp(nth, steps - 1);
        Self {
            due: (1..=most).map(step).collect(),
            sent: 0,
        }
    }

    /// Whether the preview after this step is sent; then its number, from 0. A preview that was missed is made up for by
    /// the next one.
    pub fn take(&mut self, step: u32) -> Option<usize> {
        let due = self.due.get(self.sent)?;
        if step < *due {
            return None;
        }
        self.sent += 1;
        // Two that are due at once are one.
        while self.due.get(self.sent).is_some_and(|due| *due <= step) {
            self.due.remove(self.sent);
        }
        Some(self.sent - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(count: usize, steps: u32, seen: impl Iterator<Item = u32>) -> Vec<u32> {
        let mut plan = PartialPlan::new(count, steps);
        let mut sent = Vec::new();
        for step in seen {
            if let Some(number) = plan.take(step) {
                assert_eq!(number, sent.len());
                sent.push(step);
            }
        }
        sent
    }

    #[test]
    fn previews_divide_the_steps_and_never_follow_the_last_one() {
        assert_eq!(sent(3, 4, 1..=4), [1, 2, 3]);
        assert_eq!(sent(2, 4, 1..=4), [2, 3]);
        assert_eq!(sent(1, 4, 1..=4), [2]);
        assert_eq!(sent(3, 28, 1..=28), [7, 14, 21]);
        assert_eq!(sent(0, 28, 1..=28), [0; 0]);
        for steps in 1..=60 {
            for count in 0..=3 {
                let sent = sent(count, steps, 1..=steps);
                assert_eq!(
                    sent.len(),
                    count.min(steps as usize - 1),
                    "{count} of {steps}"
                );
                assert!(sent.iter().all(|step| *step < steps));
            }
        }
    }

    #[test]
    fn a_missed_preview_is_made_up_for_by_the_next_one() {
        assert_eq!(sent(3, 28, [9, 14, 27].into_iter()), [9, 14, 27]);
        assert_eq!(sent(3, 28, [20, 27].into_iter()), [20, 27]);
        assert_eq!(sent(3, 28, [27].into_iter()), [27]);
    }
}
