use super::{Effect, Menu, Overlay};
use crate::firmware::Firmware;
use crate::menu::actions::Action;
use crate::menu::keys::Key;
use crate::menu::place::Place;
use crate::menu::tests::{listing, menu, menu_on};
use crate::power::Power;
use crate::scan::Listing;

fn press(menu: &mut Menu, keys: &str) -> Effect {
    let key = |c| match c {
        '\n' => Key::Enter,
        '\x1b' => Key::Escape,
        '\x08' => Key::Backspace,
        '↓' => Key::Down,
        '↑' => Key::Up,
        c => Key::Character(c),
    };
    keys.chars().map(|c| menu.handle(key(c))).last().unwrap_or(Effect::None)
}

fn command(effect: Effect) -> String {
    match effect {
        Effect::Run(action) => action.command_line(),
        other => format!("{other:?}"),
    }
}

#[test]
fn keys_run_the_commands_that_are_shown() {
    for (keys, expected) in [
        ("j\n\n", "be boot nightly"),
        ("jb\n", "be boot nightly"),
        ("↓a\n", "be activate nightly"),
        ("ja2", "be activate nightly --permanent"),
        ("jaj\n", "be activate nightly --permanent"),
        ("jc", "be check nightly"),
        ("jl\n\n", "be create bookworm --from nightly --replace bookworm"),
        ("jl2\x08x\n", "be create seconx --from nightly --replace second"),
        ("jm", "be umount nightly"),
        ("js\n", "be run nightly -- /bin/bash"),
        ("js2", "be run nightly --privileged -- /bin/bash"),
        ("jjjs\n", "be run @/dev/sdb1 -- /bin/sh"),
        ("jd\n", "be delete nightly"),
        ("S", "sh -l"),
        ("n", "ip address"),
    ] {
        assert_eq!(command(press(&mut menu(), keys)), expected, "{keys:?}");
    }
}

#[test]
fn nothing_that_writes_runs_without_confirmation() {
    for key in ["\n", "b", "a", "l", "d", "R", "P"] {
        let mut menu = menu();
        assert_eq!(press(&mut menu, key), Effect::None, "{key:?}");
        assert!(matches!(menu.overlay, Overlay::Dialog(_)), "{key:?}");
        assert_eq!(press(&mut menu, "\x1b"), Effect::None, "{key:?}");
        assert_eq!(menu.overlay, Overlay::None, "{key:?}");
    }
}

#[test]
fn the_machine_shuts_down_only_after_confirmation() {
    assert_eq!(press(&mut menu(), "R\n"), Effect::Power(Power::Reboot));
    assert_eq!(press(&mut menu(), "P\n"), Effect::Power(Power::Off));
}

#[test]
fn the_selection_stays_within_the_list() {
    let mut menu = menu();
    press(&mut menu, "↑↑");
    assert_eq!(menu.selected, 0);
    press(&mut menu, "jjjjjjjj");
    assert_eq!(menu.selected, 3);
    menu.handle(Key::First);
    assert_eq!(menu.selected, 0);
}

#[test]
fn the_selection_follows_its_boot_environment() {
    let mut menu = menu();
    press(&mut menu, "jj");
    let mut shorter = listing();
    shorter.environments.remove(0);
    menu.update(Ok(shorter));
    assert_eq!(menu.current().unwrap().reference, "second");
    menu.update(Ok(Listing::default()));
    assert!(menu.current().is_none());
}

#[test]
fn a_failed_scan_keeps_the_list_and_shows_the_reason() {
    let mut menu = menu();
    menu.update(Err("`be list --json` took too long".into()));
    assert_eq!(menu.environments().len(), 4);
    assert!(menu.message.as_ref().unwrap().is_failure);
    assert_eq!(command(press(&mut menu, "jc")), "be check nightly");
}

#[test]
fn with_an_empty_list_a_shell_and_a_rescan_are_available() {
    let mut menu = Menu::new("ttyS0", Place::RescueImage);
    assert_eq!(press(&mut menu, "b"), Effect::None);
    assert!(menu.message.as_ref().unwrap().text.contains("no boot environment"));
    assert_eq!(press(&mut menu, "S"), Effect::Run(Action::shell(&Place::RescueImage)));
    assert_eq!(press(&mut menu, "r"), Effect::Rescan);
}

#[test]
fn an_invalid_name_is_reported_and_can_be_corrected() {
    let mut menu = menu();
    assert_eq!(press(&mut menu, "jl1 /\n"), Effect::None);
    let Overlay::Name(input) = &menu.overlay else { panic!("{:?}", menu.overlay) };
    assert!(input.problem.as_ref().unwrap().contains("is not a name"));
    let effect = press(&mut menu, "\x08\x08\n");
    assert_eq!(command(effect), "be create bookworm --from nightly --replace bookworm");
}

#[test]
fn a_clone_needs_a_second_boot_environment() {
    let mut menu = menu();
    let mut alone = listing();
    alone.environments.truncate(1);
    menu.update(Ok(alone));
    press(&mut menu, "l");
    assert!(menu.message.as_ref().unwrap().text.contains("no other boot environment"));
}

#[test]
fn a_bios_machine_is_offered_only_what_works_there() {
    let mut menu = menu();
    menu.firmware = Firmware::Bios;
    let clone = "be create bookworm --from nightly --replace bookworm --no-boot-entry";
    assert_eq!(command(press(&mut menu, "jl\n\n")), clone);
    assert_eq!(press(&mut menu, "a"), Effect::None);
    assert_eq!(menu.overlay, Overlay::None);
    assert!(menu.message.as_ref().unwrap().text.contains("only UEFI can activate"));
}

#[test]
fn a_shell_says_what_is_different_in_it() {
    for (keys, expected) in [("js\n", "/boot/efi is empty here"), ("S", "`exit` goes back")] {
        let Effect::Run(action) = press(&mut menu(), keys) else { panic!("{keys:?}") };
        assert!(action.greeting.join(" ").contains(expected), "{keys:?}");
        assert!(action.greeting.iter().all(|line| line.len() < 80), "{keys:?}");
    }
}

#[test]
fn only_the_menu_of_an_installed_system_can_be_left() {
    assert_eq!(press(&mut menu(), "q"), Effect::None);
    let mut host = menu_on(Place::Host("web1".into()));
    assert_eq!(press(&mut host, "q"), Effect::Quit);
    // In a question it goes back.
    assert_eq!(press(&mut host, "dq"), Effect::None);
    assert_eq!(host.overlay, Overlay::None);
}
