//! The models that clients have selected, each for itself.

use std::collections::VecDeque;
use std::sync::Mutex;

/// Users whose selection is remembered; the oldest selection is forgotten first.
const USERS_MAX: usize = 1024;

/// The model that each user has selected.
#[derive(Debug, Default)]
pub(super) struct ChosenModels(Mutex<VecDeque<ModelChoice>>);

#[derive(Debug)]
struct ModelChoice {
    user: String,
    model: String,
}

impl ChosenModels {
    /// Selects a model for a user.
    pub fn choose(&self, user: &str, model: &str) {
        let mut choices = self.0.lock().expect("no holder of this lock can panic");
        choices.retain(|choice| choice.user != user);
        if choices.len() >= USERS_MAX {
            choices.pop_front();
        }
        choices.push_back(ModelChoice {
            user: user.to_owned(),
            model: model.to_owned(),
        });
    }

    /// The model that a user has selected.
    pub fn of(&self, user: &str) -> Option<String> {
        let choices = self.0.lock().expect("no holder of this lock can panic");
        let choice = choices.iter().find(|choice| choice.user == user);
        choice.map(|choice| choice.model.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_counts_for_its_user_and_the_oldest_is_forgotten() {
        let chosen = ChosenModels::default();
        chosen.choose("a", "one");
        chosen.choose("b", "two");
        chosen.choose("a", "three");
        assert_eq!(chosen.of("a").as_deref(), Some("three"));
        assert_eq!(chosen.of("b").as_deref(), Some("two"));
        assert_eq!(chosen.of("c"), None);
        for user in 0..USERS_MAX - 1 {
            chosen.choose(&format!("user {user}"), "four");
        }
        assert_eq!(chosen.of("b"), None);
        assert_eq!(chosen.of("a").as_deref(), Some("three"));
    }
}
