//! Procedural tasks: small problems with exactly one correct answer, in lines of text (`question=answer`), so
//! that a model's progress can be scored exactly. `data.task` selects one; if `data.answer_after` is `=`,
//! only the answers count as targets.

use super::random::{below, rng};
use crate::config::Task;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// Number of examples of a task. A task with fewer different ones gives all of them.
const EXAMPLES: usize = 20_000;
/// Number of consecutive draws without a new example after which a task counts as exhausted.
const FRUITLESS_DRAWS: usize = 2_000;

impl Task {
    /// All tasks.
    pub const ALL: [Self; 8] = [
        Self::Copy,
        Self::Reverse,
        Self::Sort,
        Self::Addition,
        Self::ModularAddition,
        Self::Parity,
        Self::Dyck,
        Self::TwoSum,
    ];

    /// Description of the task in one line; `None` if there is no task.
    pub fn description(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Copy => "repeat a word of 3 to 8 letters",
            Self::Reverse => "reverse a word of 3 to 8 letters",
            Self::Sort => "put 3 to 8 digits in ascending order",
            Self::Addition => "add two numbers of two digits; the sum is written with three, lowest first",
            Self::ModularAddition => "add two numbers below 31 and give the remainder of dividing by 31",
            Self::Parity => "after each of 12 bits, whether the number of ones so far is odd",
            Self::Dyck => "close the brackets that are open",
            Self::TwoSum => "find the two of four digits that add up to the target",
        })
    }

    /// Draws a question with its answer, as one line without a line break.
    fn draw(self, random: &mut ChaCha8Rng) -> String {
        let mut number = |bound: u64| below(random, bound);
        match self {
            Self::None => String::new(),
            Self::Copy => {
                let word = letters(&mut number);
                format!("{word}={word}")
            }
            Self::Reverse => {
                let word = letters(&mut number);
                format!("{word}={}", word.chars().rev().collect::<String>())
            }
            Self::Sort => {
                let mut digits: Vec<u64> = (0..3 + number(6)).map(|_| number(10)).collect();
                let question = join(&digits);
                digits.sort_unstable();
                format!("{question}={}", join(&digits))
            }
            Self::Addition => {
                let (a, b) = (number(100), number(100));
                let sum = a + b;
                format!("{a:02}+{b:02}={}{}{}", sum % 10, sum / 10 % 10, sum / 100)
            }
            Self::ModularAddition => {
                let (a, b) = (number(31), number(31));
                format!("{a:02}+{b:02}={:02}", (a + b) % 31)
            }
            Self::Parity => {
                let bits: Vec<u64> = (0..12).map(|_| number(2)).collect();
                let mut odd = 0;
                let running = bits.iter().map(|bit| {
                    odd ^= bit;
                    odd
                });
                let answer = join(&running.collect::<Vec<_>>());
                format!("{}={answer}", join(&bits))
            }
            Self::Dyck => {
                const PAIRS: [(char, char); 3] = [('(', ')'), ('[', ']'), ('{', '}')];
                let mut open = Vec::new();
                let mut text = String::new();
                for _ in 0..2 + number(9) {
                    // Opening is twice as likely, so that something is left to close.
                    if number(3) == 0
                        && let Some(close) = open.pop()
                    {
                        text.push(close);
                    } else {
                        let (left, right) = PAIRS[number(3) as usize];
                        text.push(left);
                        open.push(right);
                    }
                }
                text.push('=');
                text.extend(open.iter().rev());
                text
            }
            Self::TwoSum => loop {
                let digits: Vec<u64> = (0..4).map(|_| number(10)).collect();
                let pairs: Vec<(u64, u64)> = (0..4)
                    .flat_map(|i| (i + 1..4).map(move |j| (i, j)))
                    .map(|(i, j)| (digits[i], digits[j]))
                    .collect();
                let (a, b) = pairs[number(pairs.len() as u64) as usize];
                // One right answer only.
                if pairs.iter().filter(|(x, y)| x + y == a + b).count() == 1 {
                    break format!("{},{:02}={a}{b}", join(&digits), a + b);
                }
            },
        }
    }

    /// Makes different examples, each a document that ends with a line break. They are always the same, so
    /// that every run and machine trains and validates on the same data.
    pub(super) fn documents(self) -> Vec<String> {
        let mut random = rng(0, 0, "task");
        let mut seen = BTreeSet::new();
        let mut documents = Vec::new();
        let mut fruitless = 0;
        while documents.len() < EXAMPLES && fruitless < FRUITLESS_DRAWS {
            let line = self.draw(&mut random);
            fruitless += 1;
            if seen.insert(line.clone()) {
                fruitless = 0;
                documents.push(line + "\n");
            }
        }
        documents
    }

    /// One example as the model sees it; empty if there is no task.
    pub fn example(self) -> String {
        self.draw(&mut rng(0, 0, "example"))
    }
}

fn letters(number: &mut impl FnMut(u64) -> u64) -> String {
    (0..3 + number(6)).map(|_| char::from(b'a' + number(10) as u8)).collect()
}

fn join(digits: &[u64]) -> String {
    digits.iter().map(|digit| digit.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Solves a question independently of the generator.
    fn solve(task: Task, question: &str) -> String {
        let characters: Vec<char> = question.chars().collect();
        let digits = || characters.iter().filter_map(|c| c.to_digit(10)).collect::<Vec<_>>();
        let sum = || question.split('+').map(|n| n.parse::<u32>().unwrap()).sum::<u32>();
        match task {
            Task::None => String::new(),
            Task::Copy => question.into(),
            Task::Reverse => characters.iter().rev().collect(),
            Task::Sort => {
                let mut sorted = characters.clone();
                sorted.sort_unstable();
                sorted.into_iter().collect()
            }
            Task::Addition => format!("{:03}", sum()).chars().rev().collect(),
            Task::ModularAddition => format!("{:02}", sum() % 31),
            Task::Parity => {
                (1..=characters.len())
                    .map(|n| {
                        if characters[..n].iter().filter(|c| **c == '1').count() % 2 == 1 { '1' } else { '0' }
                    })
                    .collect()
            }
            Task::Dyck => {
                let mut rest = question.to_owned();
                loop {
                    let shorter = rest.replace("()", "").replace("[]", "").replace("{}", "");
                    if shorter == rest {
                        break;
                    }
                    rest = shorter;
                }
                let close = |c| match c {
                    '(' => ')',
                    '[' => ']',
                    _ => '}',
                };
                rest.chars().rev().map(close).collect()
            }
            Task::TwoSum => {
                let digits = digits();
                let target = 10 * digits[4] + digits[5];
                let answers: Vec<String> = (0..4)
                    .flat_map(|i| (i + 1..4).map(move |j| (i, j)))
                    .filter(|&(i, j)| digits[i] + digits[j] == target)
                    .map(|(i, j)| format!("{}{}", digits[i], digits[j]))
                    .collect();
                assert_eq!(answers.len(), 1, "{question}");
                answers[0].clone()
            }
        }
    }

    #[test]
    fn every_answer_is_right_and_no_question_comes_twice() {
        for task in Task::ALL {
            let documents = task.documents();
            assert_eq!(documents, task.documents());
            assert!(documents.len() > 900, "{task:?}: {}", documents.len());
            let mut questions = BTreeSet::new();
            for document in &documents {
                let line = document.strip_suffix('\n').unwrap();
                let (question, answer) = line.split_once('=').unwrap();
                assert_eq!(answer, solve(task, question), "{task:?} {line}");
                assert!(questions.insert(question), "{task:?} {line}");
            }
        }
    }
}
