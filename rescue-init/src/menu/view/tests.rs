use be_tools::environment::Problem;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw;
use crate::firmware::Firmware;
use crate::menu::keys::Key;
use crate::menu::place::Place;
use crate::menu::state::{Effect, Menu};
use crate::menu::tests::{listing, menu, menu_on};
use crate::scan::Listing;

fn show(menu: &Menu, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, menu)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let row =
        |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(row).collect::<Vec<_>>().join("\n")
}

fn assert_shows(screen: &str, texts: &[&str]) {
    for text in texts {
        assert!(screen.contains(text), "{text:?} is not in\n{screen}");
    }
}

#[test]
fn the_menu_fits_a_serial_console() {
    let screen = show(&menu(), 80, 24);
    assert_eq!(screen + "\n", include_str!("../../../fixtures/menu-80x24.txt"));
}

#[test]
fn on_an_installed_system_it_says_so_and_how_to_leave() {
    let screen = show(&menu_on(Place::Host("web1".into())), 80, 24);
    assert_shows(&screen, &["Lifeboat on web1", "q quit"]);
    assert!(!show(&menu(), 80, 24).contains("q quit"));
}

#[test]
fn a_wide_screen_has_room_for_the_whole_name_and_the_root() {
    let screen = show(&menu(), 160, 50);
    assert_shows(
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
    assert_shows(
        &show(&menu, 80, 24),
        &["Activate nightly?", "> 1  Trial: the firmware boots it once", "# be activate nightly "],
    );
    menu.handle(Key::Down);
    assert_shows(&show(&menu, 80, 24), &["> 2  Permanent", "# be activate nightly --permanent"]);
}

#[test]
fn the_name_of_a_copy_appears_in_the_command() {
    let mut menu = menu();
    for key in [Key::Down, Key::Character('l'), Key::Enter, Key::Backspace] {
        menu.handle(key);
    }
    let screen = show(&menu, 80, 24);
    assert_shows(
        &screen,
        &[
            "bookworm is erased and replaced with a copy of nightly.",
            "# be create bookwor --from nightly --replace bookworm",
        ],
    );
}

#[test]
fn without_a_list_the_user_sees_what_to_do() {
    let mut menu = Menu::new("tty1", Place::RescueImage);
    assert_shows(
        &show(&menu, 80, 24),
        &["Looking for boot environments", "scanning disks", "S shell"],
    );
    menu.update(Ok(Listing::default()));
    let empty = show(&menu, 80, 24);
    assert_shows(&empty, &["No boot environment was found.", "S opens a shell", "R restart"]);
    assert!(!empty.contains("Enter boot"), "{empty}");
    menu.update(Err("`be list --json` cannot be started: No such file".into()));
    assert_shows(&show(&menu, 80, 24), &["! `be list --json` cannot be started"]);
}

#[test]
fn many_boot_environments_scroll() {
    let mut menu = menu();
    let mut many = listing();
    many.environments = (0..40)
        .map(|n| {
            let mut be = many.environments[3].clone();
            be.reference = format!("be-{n}");
            be
        })
        .collect();
    menu.update(Ok(many));
    menu.handle(Key::Last);
    assert_shows(&show(&menu, 80, 24), &[">be-39", "┌ be-39 "]);
}

#[test]
fn the_menu_is_drawn_at_any_terminal_size() {
    let mut menu = menu();
    for key in ['\0', 'h', 'w', 'a', 'l', '1'] {
        if key != '\0' {
            menu.handle(Key::Character(key));
        }
        for (width, height) in [(1, 1), (20, 5), (40, 10), (80, 24), (300, 100)] {
            show(&menu, width, height);
        }
    }
}

#[test]
fn text_from_a_foreign_disk_cannot_control_the_terminal() {
    let mut menu = menu();
    let mut all = listing();
    let control = "a\x1b[2Jb\u{9b}1m\nc";
    let be = &mut all.environments[0];
    be.reference = control.into();
    be.os.pretty_name = control.into();
    be.kernel = Some(control.into());
    be.problems = vec![Problem::new("init", control)];
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
    menu.show_failure(control);
    assert!(!show(&menu, 80, 24).contains('\x1b'));
}

#[test]
fn the_network_key_exists_only_with_a_network() {
    let mut menu = menu();
    for (has_network, expected) in [(true, "n network"), (false, "w warnings  S shell")] {
        menu.has_network = has_network;
        assert_shows(&show(&menu, 80, 24), &[expected]);
        assert_eq!(menu.handle(Key::Character('n')) != Effect::None, has_network);
    }
}

#[test]
fn the_root_is_shown_before_any_problem_and_the_rest_can_be_scrolled_to() {
    let mut menu = menu();
    let mut many = listing();
    let long = format!("the last word of its fstab is {}end", "x".repeat(10_000));
    many.environments[0].problems = (0..9).map(|_| Problem::new("fstab", long.clone())).collect();
    menu.update(Ok(many));
    assert_shows(&show(&menu, 80, 24), &["root     /dev/nvme0n1p2 ext4", "UUID 8a4e", "more "]);
    for _ in 0..9 {
        menu.handle(Key::PageDown);
        show(&menu, 80, 24);
    }
    assert_shows(&show(&menu, 80, 24), &["boot     entry Boot0004, boots next"]);
    menu.handle(Key::Down);
    assert_shows(&show(&menu, 80, 24), &["root     /dev/sda2"]);
}

#[test]
fn every_warning_and_every_reason_can_be_read_to_its_end() {
    let mut menu = menu();
    let mut failing = listing();
    let warning =
        |n| format!("{} not read: {}the reason of disk {n}", n, "/a/very/long/path ".repeat(20));
    failing.warnings = (0..9).map(warning).collect();
    menu.update(Ok(failing));
    assert_shows(&show(&menu, 80, 24), &["! 9 warnings, w shows all: 0 not read", "w warnings"]);
    menu.handle(Key::Character('w'));
    assert_shows(&show(&menu, 80, 24), &["the reason of disk 0"]);
    menu.handle(Key::Last);
    assert_shows(&show(&menu, 80, 24), &["the reason of disk 8"]);
    menu.handle(Key::Escape);
    menu.show_failure(format!("`be list --json` failed: {}why", "word ".repeat(40)));
    assert_shows(&show(&menu, 80, 24), &["! `be list --json` failed", "… (w shows all)"]);
    menu.handle(Key::Character('w'));
    assert_shows(&show(&menu, 80, 24), &["word why"]);
}

#[test]
fn the_title_names_the_firmware_and_a_bios_has_no_key_to_activate() {
    let mut menu = menu();
    for (firmware, title, activates) in [
        (Firmware::Uefi, "UEFI  ttyS0", true),
        (Firmware::SecureBoot, "UEFI, Secure Boot  ttyS0", true),
        (Firmware::Bios, "BIOS  ttyS0", false),
    ] {
        menu.firmware = firmware;
        let screen = show(&menu, 80, 24);
        assert_shows(&screen, &[title]);
        assert_eq!(screen.contains("a activate"), activates, "{screen}");
    }
}
