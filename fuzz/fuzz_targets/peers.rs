//! Two ends with any settings, their applications, and a line between them that cuts what it carries
//! anywhere, stops, and breaks. Messages arrive once, whole, in order among those that go in one piece, and
//! only those that were sent; nothing follows the end; no deadline is left behind; a closed end is silent;
//! what waits is bounded; and a goodbye that arrives comes after everything that was accepted.
#![no_main]

use arbitrary::Arbitrary;
use chat_fuzz::settings::Settings;
use chat_fuzz::world::{Way, World};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    client: Settings,
    server: Settings,
    steps: Vec<(Way, Step)>,
    ending: Ending,
}

/// What one end, or its application, or the line from it does.
#[derive(Arbitrary, Debug)]
enum Step {
    Send(u8),
    SendLong(u16),
    SendLarge(u8),
    Open(Option<u16>),
    Write(u8, u16),
    Finish(u8),
    Cancel(u8),
    /// One of the other end's.
    Refuse(u8),
    Error,
    Close,
    Abort,
    Transmit(u16),
    Deliver(u16),
    Poll(u8),
    Read(u8, u8),
    Advance(u16),
    AdvanceSeconds(u8),
    /// Everything happens that takes no time.
    Settle,
    /// Everything happens that is due before this.
    Run(u8),
    Drop,
    Reset,
}

/// How it comes to an end, if it has not.
#[derive(Arbitrary, Debug)]
enum Ending {
    Close(Way),
    Both,
    Drop(Way),
}

fn step(world: &mut World, way: Way, step: &Step) {
    match *step {
        Step::Send(len) => world.send(way, len.into()),
        Step::SendLong(len) => world.send(way, len.into()),
        Step::SendLarge(len) => world.send(way, usize::from(len) * 1024),
        Step::Open(total) => world.open(way, total),
        Step::Write(which, len) => world.write(way, which, len.into()),
        Step::Finish(which) => world.finish(way, which),
        Step::Cancel(which) => world.cancel(way, which),
        Step::Refuse(which) => world.refuse(way, which),
        Step::Error => world.error(way),
        Step::Close => world.close(way),
        Step::Abort => world.abort(way),
        Step::Transmit(most) => drop(world.transmit(way, usize::from(most) * 4)),
        Step::Deliver(most) => drop(world.deliver(way, usize::from(most) * 4)),
        Step::Poll(most) => drop(world.poll(way, most.into())),
        Step::Read(which, most) => world.read(way, which, most.into()),
        Step::Advance(millis) => world.advance(millis.into()),
        Step::AdvanceSeconds(seconds) => world.advance(u64::from(seconds) * 1000),
        Step::Settle => world.settle(),
        Step::Run(seconds) => world.run_for(seconds.into()),
        Step::Drop => world.drop_line(way),
        Step::Reset => world.reset(way),
    }
}

fuzz_target!(|input: Input| {
    let mut world = World::new([&input.client, &input.server]);
    for (way, what) in &input.steps {
        step(&mut world, *way, what);
        world.check();
    }
    match input.ending {
        Ending::Close(way) => world.close(way),
        Ending::Both => {
            world.close(Way::Up);
            world.close(Way::Down);
        }
        Ending::Drop(way) => world.drop_line(way),
    }
    world.run_to_end();
    world.check_end();
});
