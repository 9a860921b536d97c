//! Which devices a command may open, as a program that the kernel asks (linux/bpf.h, `struct
//! bpf_cgroup_dev_ctx`).

use crate::storage::device_number::DeviceNumber;
use crate::sys::BpfInstruction;

/// The kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// BPF_DEVCG_DEV_BLOCK
    Block = 1,
    /// BPF_DEVCG_DEV_CHAR
    Character = 2,
}

/// What a device may be opened for. No rule allows to make a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// BPF_DEVCG_ACC_READ
    Read = 2,
    /// BPF_DEVCG_ACC_READ and BPF_DEVCG_ACC_WRITE
    ReadWrite = 6,
}

/// Devices that may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    kind: Kind,
    major: u32,
    /// All devices of the driver, if it is `None`.
    minor: Option<u32>,
    access: Access,
}

impl Rule {
    /// A character device that every program may expect.
    pub(super) fn character(number: DeviceNumber) -> Self {
        let (major, minor) = (number.major, Some(number.minor));
        Rule { kind: Kind::Character, major, minor, access: Access::ReadWrite }
    }

    /// A block device, for reading.
    pub(super) fn block(number: DeviceNumber) -> Self {
        let (major, minor) = (number.major, Some(number.minor));
        Rule { kind: Kind::Block, major, minor, access: Access::Read }
    }

    /// The terminals of devpts, and the device that makes them (the kernel's devices.txt).
    pub(super) fn terminals() -> impl Iterator<Item = Self> {
        const FIRST_MAJOR: u32 = 136;
        const LAST_MAJOR: u32 = 143;
        let of =
            |major, minor| Rule { kind: Kind::Character, major, minor, access: Access::ReadWrite };
        let terminals = (FIRST_MAJOR..=LAST_MAJOR).map(move |major| of(major, None));
        terminals.chain([of(5, Some(2))])
    }
}

/// Registers.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const BEYOND: u8 = 6;

/// Operations.
const LOAD_WORD: u8 = 0x61;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The program that allows what one of the rules allows.
pub(super) fn program(rules: &[Rule]) -> Vec<BpfInstruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        // The upper half of the first word is the access, the lower half the kind.
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
    ];
    for rule in rules {
        let mut tests = vec![Test { register: KIND, value: rule.kind as i32 }];
        tests.push(Test { register: MAJOR, value: rule.major as i32 });
        tests.extend(rule.minor.map(|minor| Test { register: MINOR, value: minor as i32 }));
        tests.push(Test { register: BEYOND, value: 0 });
        program.push(instruction(COPY, BEYOND, ACCESS, 0, 0));
        program.push(instruction(AND, BEYOND, 0, 0, !(rule.access as i32)));
        for (index, test) in tests.iter().enumerate() {
            // Past the other tests, and the two instructions after them.
            let skipped = (tests.len() - index - 1 + 2) as i16;
            program.push(instruction(JUMP_UNLESS_EQUAL, test.register, 0, skipped, test.value));
        }
        program.extend([instruction(SET, VERDICT, 0, 0, 1), instruction(EXIT, 0, 0, 0, 0)]);
    }
    program.extend([instruction(SET, VERDICT, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

/// A register and the value that it must have.
struct Test {
    register: u8,
    value: i32,
}

fn instruction(
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
) -> BpfInstruction {
    BpfInstruction { code, registers: destination | source << 4, offset, immediate }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does.
    fn judge(program: &[BpfInstruction], context: [u32; 3]) -> u64 {
        let (mut registers, mut at) = ([0u64; 11], 0usize);
        loop {
            let i = program[at];
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            at += 1;
            match i.code {
                LOAD_WORD => registers[to] = context[i.offset as usize / 4].into(),
                COPY => registers[to] = registers[from],
                SET => registers[to] = i.immediate as u64,
                AND => registers[to] = (registers[to] as u32 & i.immediate as u32).into(),
                SHIFT_RIGHT => registers[to] = (registers[to] as u32 >> i.immediate).into(),
                JUMP_UNLESS_EQUAL => {
                    if registers[to] != i.immediate as u64 {
                        at += i.offset as usize;
                    }
                }
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn a_device_is_opened_only_as_a_rule_allows() {
        const MAKE: u32 = 1;
        let disk = DeviceNumber { major: 254, minor: 3 };
        let null = DeviceNumber { major: 1, minor: 3 };
        let mut rules = vec![Rule::block(disk), Rule::character(null)];
        rules.extend(Rule::terminals());
        let program = program(&rules);
        let (read, write) = (Access::Read as u32, 4);
        let (block, character) = (Kind::Block as u32, Kind::Character as u32);
        for (kind, major, minor, access, allowed) in [
            (block, 254, 3, read, true),
            (block, 254, 3, write, false),
            (block, 254, 3, read | write, false),
            (block, 254, 3, MAKE, false),
            (block, 254, 0, read, false),
            (character, 254, 3, read, false),
            (character, 1, 3, read | write, true),
            (character, 1, 1, read, false),
            (block, 1, 3, read, false),
            (character, 136, 70_000, read | write, true),
            (character, 143, 0, read | write, true),
            (character, 144, 0, read, false),
            (character, 5, 2, read | write, true),
            (character, 5, 1, read, false),
        ] {
            let verdict = judge(&program, [access << 16 | kind, major, minor]);
            assert_eq!(verdict == 1, allowed, "{kind} {major}:{minor} {access}");
        }
    }
}
