//! The size that a body asks for, as a size that the model can draw.
//!
//! Clients ask for the sizes of OpenAI's models, whatever they talk to; many offer no others. A small model draws the
//! nearest size of the same shape, and the picture is scaled to the size that was asked for. The answer says so.

use ipc_protocol::units::PictureSize;
use pool::SizeRule;

use crate::api::http::error::ApiError;
use crate::api::http::fields::Fields;

/// Longest side of a picture that is scaled, in pixels.
const SIDE_MAX: u32 = 4096;

/// The size that a body asks for; `None` leaves it to the model. `max_pixels` bounds the file, however much of it is
/// drawn.
pub(super) fn asked(fields: &Fields, max_pixels: u64) -> Result<Option<PictureSize>, ApiError> {
    let asked = given(fields)?;
    match asked {
        Some(size) if size.pixels() > max_pixels => {
            let message = format!(
                "{size} has {} pixels, more than limits.max_pixels = {max_pixels}: ask for a smaller size",
                size.pixels()
            );
            Err(ApiError::bad_value("size", message))
        }
        Some(_) | None => Ok(asked),
    }
}

fn given(fields: &Fields) -> Result<Option<PictureSize>, ApiError> {
    let side = |name| fields.whole(name, 1, i64::from(u32::MAX));
    match (side("width")?, side("height")?) {
        // `whole` keeps both within 32 bits.
        (Some(width), Some(height)) => {
            return Ok(Some(PictureSize {
                width: width as u32,
                height: height as u32,
            }));
        }
        (None, None) => {}
        (Some(_), None) => {
            return Err(ApiError::bad_value(
                "height",
                "width is given and height is not: send both",
            ));
        }
        (None, Some(_)) => {
            return Err(ApiError::bad_value(
                "width",
                "height is given and width is not: send both",
            ));
        }
    }
    match fields.text("size")?.map(str::trim) {
        None | Some("" | "auto") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|why: String| ApiError::bad_value("size", why)),
    }
}

/// The sentence about a picture that is scaled.
pub(super) fn scaled(model: &str, asked: PictureSize, drawn: PictureSize) -> String {
    format!("{model} cannot draw {asked}: it draws {drawn}, which is scaled")
}

/// The size to draw for a picture of the size `asked`: itself if the model can draw it or refuses it for another reason
/// than its range, else the nearest size of this shape.
pub(super) fn drawn(asked: PictureSize, rule: SizeRule) -> PictureSize {
    let mut sides = [asked.width, asked.height].into_iter();
    match sides.all(|side| side.is_multiple_of(rule.multiple)) {
        true => nearest(asked, rule),
        false => asked,
    }
}

/// The size that the model can draw which is nearest to `asked`, in the same shape if that is possible. A size beyond
/// all reason is returned as it is, for the pool to refuse.
pub(super) fn nearest(asked: PictureSize, rule: SizeRule) -> PictureSize {
    let (longest, shortest) = (asked.width.max(asked.height), asked.width.min(asked.height));
    if shortest == 0 || longest > SIDE_MAX {
        return asked;
    }
    let scale = match (longest > rule.max, shortest < rule.min) {
        (true, _) => f64::from(rule.max) / f64::from(longest),
        (false, true) => f64::from(rule.min) / f64::from(shortest),
        (false, false) => 1.0,
    };
    let side = |side: u32| {
        let multiples = (f64::from(side) * scale / f64::from(rule.multiple)).round() as u32;
        (multiples * rule.multiple).clamp(rule.min, rule.max)
    };
    PictureSize {
        width: side(asked.width),
        height: side(asked.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: SizeRule = SizeRule {
        multiple: 16,
        min: 64,
        max: 256,
    };

    fn size(width: u32, height: u32) -> PictureSize {
        PictureSize { width, height }
    }

    #[test]
    fn a_size_beyond_the_model_is_drawn_in_the_same_shape() {
        for (asked, expected) in [
            (size(128, 128), size(128, 128)),
            (size(1024, 1024), size(256, 256)),
            (size(1792, 1024), size(256, 144)),
            (size(1024, 1536), size(176, 256)),
            (size(32, 32), size(64, 64)),
            (size(4096, 16), size(256, 64)),
        ] {
            assert_eq!(drawn(asked, SMALL), expected, "{asked}");
        }
    }

    #[test]
    fn the_nearest_size_has_sides_that_the_model_allows() {
        for (asked, expected) in [
            (size(128, 128), size(128, 128)),
            (size(120, 200), size(128, 208)),
            (size(1920, 1080), size(256, 144)),
            (size(1, 1), size(64, 64)),
            (size(250, 250), size(256, 256)),
            (size(5000, 64), size(5000, 64)),
            (size(0, 64), size(0, 64)),
        ] {
            assert_eq!(nearest(asked, SMALL), expected, "{asked}");
        }
    }

    #[test]
    fn sizes_that_no_model_draws_are_left_for_the_pool_to_refuse() {
        for asked in [
            size(0, 64),
            size(1000, 1000),
            size(100_000, 64),
            size(65, 65),
        ] {
            assert_eq!(drawn(asked, SMALL), asked);
        }
    }
}
