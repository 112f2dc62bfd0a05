//! It draws what was asked for: colours on the sides they were asked for.

use std::fs;

use tests::daemon::TestDaemon;
use tests::pixels::Pixels;

const PROMPT: &str = "a red circle left of a blue square on a white background";

#[test]
fn the_demo_has_its_colours_where_the_prompt_puts_them() {
    let daemon = TestDaemon::start("");
    let draw = |prompt, file| {
        daemon
            .imagepool(&["generate", prompt, "--seed", "1", "-o", file])
            .succeeded();
        daemon.sandbox.pictures().join(file)
    };
    let first = draw(PROMPT, "a.png");
    let picture = Pixels::read(&first);
    let red = picture.share("red", 0.0..0.5);
    let blue = picture.share("blue", 0.5..1.0);
    let white = picture.share("white", 0.0..1.0);
    println!("red left {red:.3}, blue right {blue:.3}, white {white:.3}");
    assert!(red > 0.06 && blue > 0.06 && white > 0.40);
    let again = draw(PROMPT, "b.png");
    let other = draw("a green star on a black background", "c.png");
    assert!(fs::read(&first).expect("written") == fs::read(&again).expect("written"));
    assert!(picture != Pixels::read(&other));
}
