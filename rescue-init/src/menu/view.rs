//! Draws the menu. It fits 80x24 and grows with the terminal. Nothing is shown by colour alone.

use be_tools::environment::BootEnvironment;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Padding, Paragraph, Row, Table, TableState, Wrap};

use super::actions::Action;
use super::place::Place;
use super::state::{Dialog, Menu, NameInput, Outcome, Overlay};
use super::text::{self, Detail, Fact, Severity};
use super::wrapped_text::{Scroll, at_most, columns, shortened, wrap};

const BAR: Style = Style::new().fg(Color::White).bg(Color::Blue).add_modifier(Modifier::BOLD);
const KEY: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const LABEL: Style = Style::new().fg(Color::Cyan);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
/// The selected row. Reversed or bold would be grey on grey on the Linux console.
const SELECTED: Style =
    Style::new().fg(Color::Black).bg(Color::Cyan).remove_modifier(Modifier::BOLD);

/// A key and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHelp {
    /// The name of the key, or of several.
    pub key: &'static str,
    /// What it does.
    pub effect: &'static str,
}

const fn key(key: &'static str, effect: &'static str) -> KeyHelp {
    KeyHelp { key, effect }
}

const ACTIVATE: KeyHelp = key("a", "activate");
const WARNINGS: KeyHelp = key("w", "warnings");
const NETWORK: KeyHelp = key("n", "network");
const NETWORK_HELP: KeyHelp = key("n", "show network addresses");
const QUIT: KeyHelp = key("q", "quit");
const QUIT_HELP: KeyHelp = key("q", "leave the menu");

/// Keys of the footer, one array per line.
const KEYS: [&[KeyHelp]; 2] = [
    &[
        key("Enter", "boot"),
        ACTIVATE,
        key("c", "check"),
        key("l", "clone"),
        key("m", "mount"),
        key("s", "shell inside"),
        key("d", "delete"),
    ],
    &[
        key("h", "help"),
        key("r", "rescan"),
        WARNINGS,
        NETWORK,
        key("S", "shell"),
        key("R", "restart"),
        key("P", "power off"),
        QUIT,
    ],
];

const HELP: &[KeyHelp] = &[
    key("Up Down j k", "select a boot environment"),
    key("Enter, b", "boot it now with kexec; the next boot is not affected"),
    key("a", "activate it: the firmware boots it once or from now on"),
    key("c", "check whether it would boot"),
    key("l", "clone it over another boot environment"),
    key("m", "mount or unmount it"),
    key("s", "run a shell inside it"),
    key("d", "delete it"),
    key("PgUp PgDn", "scroll what is known about it"),
    key("w", "show all warnings"),
    key("r", "scan all disks again; new disks are scanned automatically"),
    NETWORK_HELP,
    key("S", "run a shell"),
    key("R P", "restart or power off"),
    key("Ctrl-L", "redraw the screen"),
    QUIT_HELP,
];

/// The keys of the footer that have an effect now, one list per line.
pub fn footer(menu: &Menu) -> [Vec<KeyHelp>; 2] {
    let has_effect = |key: &KeyHelp| match *key {
        NETWORK => menu.has_network,
        WARNINGS => !menu.warnings().is_empty(),
        ACTIVATE => menu.firmware.has_boot_entries(),
        QUIT => menu.place != Place::RescueImage,
        _ => true,
    };
    let [on_environment, others]: [Vec<KeyHelp>; 2] =
        KEYS.map(|line| line.iter().copied().filter(has_effect).collect());
    if menu.environments().is_empty() { [Vec::new(), others] } else { [on_environment, others] }
}

/// All keys that have an effect on this machine.
pub fn help(menu: &Menu) -> impl Iterator<Item = &'static KeyHelp> {
    HELP.iter().filter(move |key| match **key {
        NETWORK_HELP => menu.has_network,
        QUIT_HELP => menu.place != Place::RescueImage,
        _ => true,
    })
}

/// Draws the whole menu.
pub fn draw(frame: &mut Frame<'_>, menu: &Menu) {
    let rows = u16::try_from(menu.environments().len()).unwrap_or(u16::MAX);
    let rows = rows.max(3).min((frame.area().height / 2).saturating_sub(2));
    let [title, _, list, details, message, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(rows + 2),
        Constraint::Min(6),
        Constraint::Length(1),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    draw_title(frame, title, menu);
    if menu.environments().is_empty() {
        draw_empty(frame, list.union(details), menu);
    } else {
        draw_list(frame, list, menu);
        draw_details(frame, details, menu);
    }
    draw_message(frame, message, menu);
    frame.render_widget(Text::from_iter(footer(menu).map(key_line)), keys);
    match &menu.overlay {
        Overlay::None => {}
        Overlay::Help => draw_help(frame, menu),
        Overlay::Messages(scroll) => draw_messages(frame, menu, scroll),
        Overlay::Dialog(dialog) => draw_dialog(frame, dialog),
        Overlay::Name(input) => draw_name(frame, input, menu),
    }
}

fn draw_title(frame: &mut Frame<'_>, area: Rect, menu: &Menu) {
    let busy = if menu.scanning { "scanning disks  " } else { "" };
    let right = format!("{busy}{}  {} ", menu.firmware.name(), menu.console);
    frame.render_widget(Block::new().style(BAR), area);
    frame.render_widget(Line::styled(format!(" {}", menu.place.title()), BAR), area);
    frame.render_widget(Line::styled(right, BAR).right_aligned(), area);
}

fn draw_empty(frame: &mut Frame<'_>, area: Rect, menu: &Menu) {
    let lines = if menu.listing.is_none() && menu.message.is_none() {
        vec![Line::from("Looking for boot environments on all disks ...")]
    } else {
        vec![
            Line::styled("No boot environment was found.", BOLD),
            Line::default(),
            Line::from("If you attach a disk now, it is scanned automatically."),
            Line::from("r scans again, S opens a shell, h lists all keys."),
        ]
    };
    let [_, middle] =
        Layout::vertical([Constraint::Percentage(35), Constraint::Min(4)]).areas(area);
    frame.render_widget(Text::from(lines).centered(), middle);
}

fn draw_list(frame: &mut Frame<'_>, area: Rect, menu: &Menu) {
    let wide = area.width >= 110;
    let mut header = vec!["NAME", "BOOT", "SYSTEM", "KERNEL", "CREATED", "USED", "HEALTH"];
    let longest =
        menu.environments().iter().map(|be| be.reference.chars().count()).max().unwrap_or(0);
    let mut widths = vec![
        if wide {
            Constraint::Length(u16::try_from(longest.clamp(16, 40)).unwrap_or(40))
        } else {
            Constraint::Min(12)
        },
        Constraint::Length(5),
        Constraint::Length(if wide { 32 } else { 12 }),
        Constraint::Length(if wide { 20 } else { 14 }),
        Constraint::Length(10),
        Constraint::Length(5),
        Constraint::Length(12),
    ];
    if wide {
        header.push("ROOT");
        widths.push(Constraint::Min(16));
    }
    let rows = menu.environments().iter().map(|be| row(be, wide));
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(LABEL.add_modifier(Modifier::BOLD)))
        .row_highlight_style(SELECTED)
        .highlight_symbol(">")
        .highlight_spacing(ratatui::widgets::HighlightSpacing::Always)
        .column_spacing(if wide { 2 } else { 1 });
    let area = Rect { width: area.width.saturating_sub(1), ..area };
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(menu.selected));
}

fn row(be: &BootEnvironment, wide: bool) -> Row<'static> {
    let text::Health { text: health, severity } = text::health(be);
    let system = if wide { be.os.pretty_name.clone() } else { be.os.short() };
    let mut cells = vec![
        Span::styled(be.reference.clone(), BOLD),
        Span::styled(
            text::next(be),
            Style::new().fg(Color::LightYellow).add_modifier(Modifier::BOLD),
        ),
        Span::from(system),
        Span::from(be.kernel.clone().unwrap_or_else(|| "-".into())),
        Span::from(text::created(be)),
        Span::from(text::size(be.used)),
        Span::styled(health, colour(severity)),
    ];
    if wide {
        cells.push(Span::from(be.root.device.display().to_string()));
    }
    Row::new(cells)
}

/// Bright colours are set bold as well: the Linux console makes them bold and then stays bold until
/// the attribute is reset.
fn colour(severity: Severity) -> Style {
    let colour = match severity {
        Severity::Good => Color::LightGreen,
        Severity::Warning => Color::LightYellow,
        Severity::Bad => Color::LightRed,
    };
    Style::new().fg(colour).add_modifier(Modifier::BOLD)
}

fn draw_details(frame: &mut Frame<'_>, area: Rect, menu: &Menu) {
    let Some(be) = menu.current() else { return };
    let block = Block::bordered()
        .border_style(LABEL)
        .title(Line::styled(format!(" {} ", be.reference), BOLD))
        .padding(Padding::horizontal(1));
    let rows = details(be, menu.environments(), usize::from(area.width.saturating_sub(4)));
    // On a tall screen, the box is as high as necessary, but its height is the same for most BEs.
    let height = u16::try_from(rows.len()).unwrap_or(u16::MAX).saturating_add(2);
    let area = Rect { height: height.max(14).min(area.height), ..area };
    let hidden = rows.len().saturating_sub(usize::from(area.height.saturating_sub(2)));
    let block = if hidden == 0 {
        block
    } else {
        let hint = format!(" PgUp PgDn: {hidden} more ");
        block.title_bottom(Line::styled(hint, LABEL).right_aligned())
    };
    let offset = menu.details.within(hidden);
    let shown: Vec<Line<'_>> = rows.into_iter().skip(offset).collect();
    frame.render_widget(Paragraph::new(shown).block(block), area);
}

/// The details of a BE as rows of a width. A problem takes two of them at most, because there may
/// be many; `be check` prints it in full.
fn details(be: &BootEnvironment, all: &[BootEnvironment], width: usize) -> Vec<Line<'static>> {
    const LABEL_WIDTH: usize = 9;
    let fact = |Fact { label, value }: Fact| -> Vec<Line<'static>> {
        let rows = wrap(&value, width.saturating_sub(LABEL_WIDTH));
        let labels = std::iter::once(label).chain(std::iter::repeat(""));
        let line = |(label, row): (&str, String)| {
            Line::from(vec![Span::styled(format!("{label:<LABEL_WIDTH$}"), LABEL), Span::from(row)])
        };
        labels.zip(rows).map(line).collect()
    };
    let problem = |text: String| -> Vec<Line<'static>> {
        let width = width.saturating_sub(MARK.len());
        let rows = at_most(wrap(&text, width), 2, width);
        marked(rows).map(|row| Line::styled(row, colour(Severity::Bad))).collect()
    };
    let lines = |detail| match detail {
        Detail::Fact(one) => fact(one),
        Detail::Problem(text) => problem(text),
    };
    text::details(be, all).into_iter().flat_map(lines).collect()
}

/// What stands before a problem and a warning.
const MARK: &str = "! ";

fn marked(rows: Vec<String>) -> impl Iterator<Item = String> {
    rows.into_iter().enumerate().map(|(number, row)| {
        let mark = if number == 0 { MARK } else { "  " };
        format!("{mark}{row}")
    })
}

fn draw_message(frame: &mut Frame<'_>, area: Rect, menu: &Menu) {
    let width = usize::from(area.width.saturating_sub(2));
    let line = match &menu.message {
        Some(message) if message.is_failure => {
            let text = fitted(&format!("{MARK}{}", one_line(&message.text)), width);
            Line::styled(format!(" {text}"), colour(Severity::Bad))
        }
        Some(message) => {
            Line::styled(format!(" {}", fitted(&one_line(&message.text), width)), BOLD)
        }
        None => match warning(menu.warnings(), width) {
            Some(text) => Line::styled(format!(" {text}"), colour(Severity::Warning)),
            None => Line::default(),
        },
    };
    frame.render_widget(line, area);
}

/// The warnings in one row: the only one if it fits, or else how many there are and the key that
/// shows them all, which must not be cut off.
fn warning(warnings: &[String], width: usize) -> Option<String> {
    let first = one_line(warnings.first()?);
    let count = warnings.len();
    let all = format!("{MARK}{first}");
    if count == 1 && columns(&all) <= width {
        return Some(all);
    }
    let plural = if count == 1 { "" } else { "s" };
    let text = format!("{MARK}{count} warning{plural}, w shows all: {first}");
    let is_short = columns(&text) <= width;
    Some(if is_short { text } else { shortened(&text, width.saturating_sub(1)) + "…" })
}

/// A message in one row. If it does not fit, it names the key that shows all of it.
fn fitted(text: &str, width: usize) -> String {
    const HINT: &str = "… (w shows all)";
    if columns(text) <= width {
        return text.to_owned();
    }
    shortened(text, width.saturating_sub(columns(HINT))) + HINT
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn key_line(keys: Vec<KeyHelp>) -> Line<'static> {
    let spans = keys.into_iter().flat_map(|KeyHelp { key, effect }| {
        [
            Span::from(" "),
            Span::styled(key, KEY),
            Span::from(" "),
            Span::from(effect),
            Span::from(" "),
        ]
    });
    spans.collect()
}

/// Estimates how many rows lines take at a width. Wrapping at words may take one more.
fn wrapped(lines: &[Line<'_>], width: u16) -> u16 {
    let width = usize::from(width).max(1);
    let rows: usize = lines.iter().map(|line| line.width().div_ceil(width).max(1)).sum();
    u16::try_from(rows).unwrap_or(u16::MAX)
}

/// The most columns of a window in the middle.
const WINDOW_WIDTH: u16 = 76;

/// Draws all messages in full. If there are more rows than the screen has, they can be scrolled.
fn draw_messages(frame: &mut Frame<'_>, menu: &Menu, scroll: &Scroll) {
    let width = usize::from(frame.area().width.min(WINDOW_WIDTH)).saturating_sub(4 + MARK.len());
    let rows: Vec<String> =
        menu.messages().iter().flat_map(|message| marked(wrap(message, width))).collect();
    let room = usize::from(frame.area().height).saturating_sub(2);
    let hidden = rows.len().saturating_sub(room);
    let shown = rows.into_iter().skip(scroll.within(hidden)).take(room).map(Line::from);
    let hint = if hidden == 0 { "any key: back" } else { "Up Down PgUp PgDn: scroll   Esc: back" };
    draw_window(frame, "Warnings", shown.collect(), hint);
}

/// Draws a window in the middle, as high as its lines.
fn draw_window(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>, hint: &str) {
    let all = frame.area();
    let width = all.width.min(WINDOW_WIDTH);
    let height = wrapped(&lines, width.saturating_sub(4)).saturating_add(2).min(all.height);
    let area = Rect { x: (all.width - width) / 2, y: (all.height - height) / 2, width, height }
        .intersection(all);
    let block = Block::bordered()
        .border_style(KEY)
        .title(Line::styled(format!(" {title} "), BOLD))
        .title_bottom(Line::styled(format!(" {hint} "), LABEL).right_aligned())
        .padding(Padding::horizontal(1));
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }).block(block), area);
}

fn draw_dialog(frame: &mut Frame<'_>, dialog: &Dialog) {
    let mut lines = vec![Line::default()];
    if !dialog.text.is_empty() {
        lines.extend([Line::from(dialog.text.as_str()), Line::default()]);
    }
    for (number, choice) in dialog.choices.iter().enumerate() {
        let is_selected = number == dialog.selected;
        let text =
            format!("{} {}  {} ", if is_selected { ">" } else { " " }, number + 1, choice.label);
        lines.push(Line::styled(text, if is_selected { SELECTED } else { Style::new() }));
    }
    lines.push(Line::default());
    if let Some(Outcome::Run(action)) =
        dialog.choices.get(dialog.selected).map(|choice| &choice.outcome)
    {
        lines.extend([Line::styled(format!("# {}", action.command_line()), BOLD), Line::default()]);
    }
    draw_window(frame, &dialog.title, lines, "Enter: confirm   Esc: back");
}

fn draw_name(frame: &mut Frame<'_>, input: &NameInput, menu: &Menu) {
    let cursor = Span::styled(" ", SELECTED);
    let action = Action::clone_over(&input.source, &input.replaced, &input.text, menu.firmware);
    let mut lines = vec![
        Line::default(),
        Line::from(format!(
            "{} is erased and replaced with a copy of {}.",
            input.replaced, input.source
        )),
        Line::default(),
        Line::from(vec![
            Span::styled("Name: ", LABEL),
            Span::styled(input.text.as_str(), BOLD),
            cursor,
        ]),
        Line::default(),
        Line::styled(format!("# {}", action.command_line()), BOLD),
        Line::default(),
    ];
    if let Some(problem) = &input.problem {
        lines
            .extend([Line::styled(format!("! {problem}"), colour(Severity::Bad)), Line::default()]);
    }
    draw_window(frame, "Name of the copy", lines, "Enter: confirm   Esc: back");
}

fn draw_help(frame: &mut Frame<'_>, menu: &Menu) {
    let line = |KeyHelp { key, effect }: &KeyHelp| {
        Line::from(vec![Span::styled(format!("{key:<13}"), KEY), Span::from(*effect)])
    };
    let mut lines: Vec<Line<'_>> = help(menu).map(line).collect();
    lines.insert(0, Line::default());
    lines.push(Line::default());
    lines.push(Line::from(
        "Every action runs the `be` command that it shows; `be --help` lists them all.",
    ));
    draw_window(frame, "Keys", lines, "any key: back");
}

#[cfg(test)]
mod tests;
