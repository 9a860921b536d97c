use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::keys::Key;
use super::state::{Effect, Menu};
use super::tests::menu;
use super::view::draw;
use crate::scan::Listing;

fn show(menu: &Menu, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, menu)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row =
        |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

fn has(screen: &str, texts: &[&str]) {
    for text in texts {
        assert!(screen.contains(text), "{text:?} is not in\n{screen}");
    }
}

#[test]
fn the_menu_on_a_serial_console() {
    let screen = show(&menu(), 80, 24);
    assert_eq!(screen + "\n", include_str!("../../fixtures/menu-80x24.txt"));
}

#[test]
fn a_wide_screen_has_room_for_the_whole_name_and_the_root() {
    let screen = show(&menu(), 160, 50);
    has(
        &screen,
        &[
            "ROOT",
            "Debian GNU/Linux 12 (bookworm)",
            "6.1.0-50-amd64",
            "/dev/nvme0n1p2",
            "Alpine Linux v3.20",
        ],
    );
}

#[test]
fn a_question_shows_the_command_of_each_answer() {
    let mut menu = menu();
    menu.handle(Key::Down);
    menu.handle(Key::Character('a'));
    has(
        &show(&menu, 80, 24),
        &["Activate nightly?", "> 1  Trial: the firmware boots it once", "# be activate nightly "],
    );
    menu.handle(Key::Down);
    has(&show(&menu, 80, 24), &["> 2  Permanent", "# be activate nightly --permanent"]);
}

#[test]
fn the_name_of_a_copy_is_seen_in_the_command() {
    let mut menu = menu();
    for key in [Key::Down, Key::Character('l'), Key::Enter, Key::Backspace] {
        menu.handle(key);
    }
    let screen = show(&menu, 80, 24);
    has(
        &screen,
        &[
            "bookworm is erased and becomes a copy of nightly.",
            "# be create bookwor --from nightly --replace bookworm",
        ],
    );
}

#[test]
fn before_the_first_list_and_without_any_there_is_a_way_on() {
    let mut menu = Menu::new("tty1");
    has(
        &show(&menu, 80, 24),
        &["Looking for boot environments", "looking at the disks", "S shell"],
    );
    menu.update(Ok(Listing::default()));
    has(&show(&menu, 80, 24), &["No boot environment was found.", "S opens a shell"]);
    menu.update(Err("`be list --json` cannot be started: No such file".into()));
    has(&show(&menu, 80, 24), &["! `be list --json` cannot be started"]);
}

#[test]
fn many_boot_environments_scroll() {
    let mut menu = menu();
    let mut many = super::tests::listing();
    many.environments = (0..40)
        .map(|n| {
            let mut be = many.environments[3].clone();
            be.reference = format!("be-{n}");
            be
        })
        .collect();
    menu.update(Ok(many));
    menu.handle(Key::Last);
    has(&show(&menu, 80, 24), &[">be-39", "┌ be-39 "]);
}

#[test]
fn any_size_of_terminal_is_drawn() {
    let mut menu = menu();
    for key in ['\0', 'h', 'a', 'l', '1'] {
        if key != '\0' {
            menu.handle(Key::Character(key));
        }
        for (width, height) in [(1, 1), (20, 5), (40, 10), (80, 24), (300, 100)] {
            show(&menu, width, height);
        }
    }
}

#[test]
fn a_foreign_disk_steers_no_terminal() {
    let mut menu = menu();
    let mut all = super::tests::listing();
    let steering = "a\x1b[2Jb\u{9b}1m\nc";
    let be = &mut all.environments[0];
    be.reference = steering.into();
    be.os.pretty_name = steering.into();
    be.kernel = Some(steering.into());
    be.problems = vec![steering.to_owned().into()];
    menu.update(Ok(all));
    menu.handle(Key::First);
    for key in ['\0', 'b', 'l'] {
        menu.handle(Key::Escape);
        menu.handle(Key::Character(key));
        for width in [80, 160] {
            let screen = show(&menu, width, 24);
            assert!(!screen.contains(|c: char| c != '\n' && c.is_control()), "{screen:?}");
        }
    }
    menu.fail(steering);
    assert!(!show(&menu, 80, 24).contains('\x1b'));
}

#[test]
fn without_a_network_there_is_no_key_for_it() {
    let mut menu = menu();
    for (has_network, expected) in [(true, "n network"), (false, "r look again  S shell")] {
        menu.has_network = has_network;
        has(&show(&menu, 80, 24), &[expected]);
        assert_eq!(menu.handle(Key::Character('n')) != Effect::None, has_network);
    }
}
