use std::sync::Arc;

use super::*;

#[tokio::test]
async fn they_leave_in_order_and_a_place_is_kept() {
    let waiters = Arc::new(Waiters::default());
    let (mut first, mut second) = (None, None);
    let one = waiters.park(&mut first, 10).unwrap();
    let two = waiters.park(&mut second, 10).unwrap();
    waiters.tell(1, Word::Go);
    assert_eq!(one.1.await, Ok(Word::Go));
    assert_eq!(waiters.len(), 1);
    // The first one comes back and is in front again.
    let one = waiters.park(&mut first, 10).unwrap();
    assert_eq!(one.0, Ticket(0));
    waiters.tell(1, Word::Go);
    assert_eq!(one.1.await, Ok(Word::Go));
    waiters.tell(5, Word::GivenUp);
    assert_eq!(two.1.await, Ok(Word::GivenUp));
}

#[tokio::test]
async fn the_room_is_bounded_and_a_cancelled_wait_leaves_it() {
    let waiters = Waiters::default();
    {
        let mut ticket = None;
        let wait = waiters.wait(&mut ticket, 1);
        tokio::pin!(wait);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(wait.as_mut().poll(&mut context).is_pending());
        assert_eq!(waiters.len(), 1);
        assert_eq!(waiters.wait(&mut None, 1).await, Err(Refused::Full));
    }
    assert_eq!(waiters.len(), 0);
    waiters.close();
    assert_eq!(waiters.wait(&mut None, 1).await, Err(Refused::Closed));
}
