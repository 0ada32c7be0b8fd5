/**
 * Process groups that children of ours lead. A group's number is its leader's pid, fixed when the leader was made and
 * never looked up later. It cannot become a stranger's while the leader is not reaped; newer kernels let a pidfd name
 * the group as well, for as long as there is one. Used by ChildHandle, which decides what is sent and when.
 */

import { EINVAL, ENOSYS, ESRCH } from '../sys/errno.ts';
import { systemError } from '../sys/errors.ts';
import type { Exits } from './exits.ts';
import { nativeChild } from './native.ts';
import type { ProcessRecord } from './record.ts';

const members = new Int32Array(16);

export class OwnedGroup {
  /** The leader's pid. */
  readonly id: number;
  readonly #leader: ProcessRecord;

  constructor(leader: ProcessRecord) {
    this.id = leader.pid;
    this.#leader = leader;
  }

  /** Throws ESRCH when it has no process left. Number 0 asks just that. */
  signal(number: number): void {
    const ended = this.#leader.observe();
    if (ended && this.isEmpty()) throw systemError(-ESRCH, 'kill', { pid: -this.id });
    const errno = nativeChild().signalGroup(this.id, this.#leader.reaped ? this.#leader.pidfd : -1, number);
    if (errno < 0) throw systemError(errno, 'kill', { pid: -this.id });
  }

  /** True when the leader can be reaped and the group still be told from a later one with the same number. */
  get outlivesLeader(): boolean {
    const { pidfd } = this.#leader;
    return pidfd >= 0 && nativeChild().signalGroup(this.id, pidfd, 0) !== -EINVAL;
  }

  /** False when the leader has moved to another group, as shells with job control do. To be asked while it runs. */
  get hasItsLeader(): boolean {
    return nativeChild().groupOf(this.id) === this.id;
  }

  /** Whether all of its processes have ended. To be asked when the leader has. */
  isEmpty(): boolean {
    // One call instead of a walk through all processes, where it is conclusive.
    if (this.#leader.reaped && nativeChild().signalGroup(this.id, this.#leader.pidfd, 0) === -ESRCH)
      return true;
    const count = nativeChild().groupMembers(this.id, members);
    // What cannot be seen now may be there; where nobody can ever see it, it is not waited for.
    return count === 0 || count === -ENOSYS;
  }

  /** Calls back, once, when the last process has ended; at once when there is none. */
  whenEmpty(exits: Exits, onEmpty: () => void): void {
    const look = () => {
      for (let turn = 0; ; turn++) {
        if (this.isEmpty()) {
          onEmpty();
          return;
        }
        // All that we found had ended when we came to them, three times over.
        if (turn === 3) {
          exits.lookAgain(look);
          return;
        }
        // The end of any one of them is a time to look again.
        const count = Math.min(members.length, nativeChild().groupMembers(this.id, members));
        for (let i = 0; i < count; i++) {
          const pid = members[i] as number;
          if (exits.watchInternally(pid, look, () => nativeChild().groupOf(pid) === this.id)) return;
        }
      }
    };
    look();
  }
}
