/* SPDX-License-Identifier: MIT
 * A model of the replace protocol: writers, chunks that are made and removed, commits, the copier
 * with its cursor, finishing, one crash and one failure of the target at any moment. README.md maps
 * its parts to the code. Weakenings (each must give a counterexample): -DCURSOR_RULE -DNO_FREEZE
 * -DG0_BEFORE_DRAIN -DGUARD_EARLY -DNO_FLUSH -DBROKEN_COUNTS
 */
#ifndef N
#define N 2          /* places on the source, one chunk with one extent each */
#endif
#ifndef WRITES
#define WRITES 3
#endif
#ifndef WRITERS
#define WRITERS 1
#endif
#ifndef COMMITS
#define COMMITS 8
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif

#define NONE 0
#define COPYING 1
#define SUSPENDED 2
#define FINISHED 3

/* The running state. A version number stands for content; 0 is nothing. */
byte gen = 1, next_version = 1, writes_left = WRITES;
byte val[N], birth[N], pin[N];
bool chunk[N], in_flight[N], frozen[N];
bool early[N];   /* written to the target while arming, before G0: may be copied once more */
/* Devices: what reads see; what survives on the target for sure. */
byte src[N], tgt[N], tdur[N];
/* The committed state (the newest durable superblock). */
byte cgen, cval[N], cbirth[N], ccursor, cg0, cclosed, cg1, cagain;
bool cchunk[N];
byte cstate = NONE;
bool target_is_member = false;
/* The replace. Coverage: born in [g0, closed] or >= g1: all; else left of the cursor of its walk. */
byte state = NONE, cursor, g0, g1, closed, again;   /* again: cursor of the walk after a suspension */
bool armed_ready = false, swap_wanted = false, broken = false;
/* Maps, as the mapper publishes them; guards held on each. */
#define MAPS 6
byte map;
bool map_dup[MAPS];
byte guards[MAPS];
#define DUP map_dup[map]
#define DRAINED (guards[0] == 0 || map == 0) && (guards[1] == 0 || map <= 1) && \
                (guards[2] == 0 || map <= 2) && (guards[3] == 0 || map <= 3) && \
                (guards[4] == 0 || map <= 4)
byte crashes = CRASHES, faults = FAULTS;
bool down = false, disturbed = false, over = false;
byte stopped = 0;
#define TASKS (WRITERS + 2)

#define COVERED(b, s) ((g1 != 0 && b >= g1) || (g0 != 0 && b >= g0 && (closed == 0 || b <= closed)) \
                       || (g0 != 0 && b < g0 && s < cursor) || (s < again && g1 != 0 && b < g1))

/* Waits only while the power is on, as everything does. */
#define PAUSE(c) ((c) || down)

inline publish(with_dup) { map++; map_dup[map] = with_dup }

inline suspend() {           /* duplication breaks: nothing after the last durable generation counts */
  publish(false); broken = true; armed_ready = false; swap_wanted = false; again = 0;
  if
  :: state == COPYING ->
     if
     :: closed == 0 ->
#ifdef BROKEN_COUNTS
        closed = gen
#else
        closed = cgen
#endif
     :: else -> g1 = 0
     fi;
     cursor = ccursor; state = SUSPENDED
  :: state == SUSPENDED -> g1 = 0
  :: else -> g0 = 0; cursor = 0              /* arming has failed: nothing counts */
  fi
}

proctype writer() {
  byte s, t, v, m;
  bool to_target;
  do
  :: down -> break
  :: !down && writes_left > 0 && !over ->
     atomic {                                  /* allocate; make a chunk if there is none */
       if
       :: writes_left > 0 && !down ->
          s = 0;
          do
          :: s < N - 1 -> s++
          :: break
          od;
          if
          :: val[s] == 0 && pin[s] == 0 && !in_flight[s] && !frozen[s] ->
             writes_left--; in_flight[s] = true; chunk[s] = true;
             v = next_version; next_version++
          :: else -> v = 0; s = 0
          fi
       :: else -> v = 0
       fi
     };
     if
     :: v == 0 -> skip
     :: v != 0 ->
        atomic { if :: !down -> m = map; guards[m]++ :: else fi };       /* map guard */
        atomic { if :: !down -> src[s] = v :: else fi };
        atomic {
          if
          :: !down && map_dup[m] ->
#ifdef CURSOR_RULE
             to_target = (s < cursor);
#else
             to_target = true;
#endif
             if :: to_target && !broken -> tgt[s] = v; early[s] = (g0 == 0) :: else fi
          :: else
          fi
        };
#ifdef GUARD_EARLY
        atomic { if :: !down -> guards[m]-- :: else fi };
#endif
        atomic {                               /* record it; perhaps remove another one */
          if
          :: !down ->
             val[s] = v; birth[s] = gen; in_flight[s] = false;
#ifndef GUARD_EARLY
             guards[m]--;
#endif
             t = 0;
             do
             :: t < N -> if :: t != s && val[t] != 0 -> val[t] = 0; birth[t] = 0; pin[t] = gen; break :: t++ fi
             :: break
             od
          :: else
          fi;
          s = 0; t = 0; v = 0; m = 0; to_target = false
        }
     fi
  :: over || writes_left == 0 -> (down); break
  od;
  stopped++
}

proctype committer() {
  byte sg, s, scursor, sg0, sclosed, sg1, sagain, sstate;
  byte sval[N], sbirth[N];
  bool schunk[N], swap;
  do
  :: down -> break
  :: !down && !over && gen < COMMITS ->
     atomic {                                  /* close the transaction */
       if
       :: !down ->
          sg = gen; gen++;
          if
          :: armed_ready && g0 == 0 -> g0 = gen; armed_ready = false
          :: armed_ready && g0 != 0 -> g1 = gen; armed_ready = false
          :: else
          fi;
          s = 0;
          do
          :: s < N ->
             if :: val[s] == 0 && !in_flight[s] && pin[s] == 0 && !frozen[s] -> chunk[s] = false :: else fi;
             sval[s] = val[s]; sbirth[s] = (val[s] == 0 -> 0 : birth[s]); schunk[s] = chunk[s];
             s++
          :: else -> break
          od;
          scursor = cursor; sagain = again; swap = swap_wanted
       :: else
       fi
     };
#ifndef NO_FLUSH
     atomic { if :: !down && !broken -> s = 0; do :: s < N -> tdur[s] = tgt[s]; s++ :: else -> break od :: else fi };
#endif
     atomic {                                  /* the record as of after the flush; the superblock */
       if
       :: !down ->
          sg0 = g0; sclosed = closed; sg1 = g1; sstate = state;
          if :: broken -> scursor = (state == NONE -> 0 : ccursor); sagain = 0 :: else fi;
          if
          :: swap && !broken && swap_wanted ->
             s = 0;                            /* everything the committed state reaches is there */
             do
             :: s < N -> assert(sval[s] == 0 || tdur[s] == sval[s]); s++
             :: else -> break
             od;
             target_is_member = true; state = FINISHED; sstate = FINISHED; over = true
          :: else
          fi;
          cgen = sg; ccursor = scursor; cagain = sagain; cg0 = sg0; cclosed = sclosed; cg1 = sg1;
          cstate = sstate;
          s = 0;
          do
          :: s < N ->
             cval[s] = sval[s]; cbirth[s] = sbirth[s]; sbirth[s] = 0; cchunk[s] = schunk[s];
             if :: pin[s] != 0 && pin[s] <= sg -> pin[s] = 0 :: else fi;
             sval[s] = 0; schunk[s] = false;
             s++
          :: else -> break
          od
       :: else
       fi;
       s = 0; sg = 0; scursor = 0; sg0 = 0; sclosed = 0; sg1 = 0; sagain = 0; sstate = 0; swap = false
     }
  :: over || gen == COMMITS -> (down); break
  od;
  stopped++
}

inline wait_commit() {                         /* begun and finished after now */
  g = gen;
  (PAUSE(cgen >= g || broken));
  g = 0
}

proctype replacer() {
  byte s, v, g;
  bool there;
  do
  :: down || over -> break
  :: !down && !over && state == NONE && !broken && !DUP ->          /* start */
     atomic { if :: !down -> publish(true)
#ifdef G0_BEFORE_DRAIN
       ; g0 = gen
#endif
       :: else fi };
#ifndef G0_BEFORE_DRAIN
     (PAUSE((DRAINED) || broken));
     atomic { if :: !down && !broken -> armed_ready = true :: else fi };
     wait_commit();
#endif
     atomic { if :: !down && !broken -> state = COPYING; cursor = 0 :: else fi }
  :: !down && state == SUSPENDED && broken ->                       /* resume: arm again */
     atomic { if :: !down -> broken = false; publish(true); again = 0; g1 = 0 :: else fi };
     (PAUSE((DRAINED) || broken));
     atomic { if :: !down && !broken -> armed_ready = true :: else fi };
     wait_commit();
     atomic { if :: !down && !broken -> state = COPYING :: else fi }
  :: !down && state == NONE && broken -> atomic { if :: !down -> broken = false :: else fi }
  :: !down && state == COPYING && !broken ->
     s = (g1 != 0 -> again : cursor);
     if
     :: s < N ->
        atomic {                               /* the chunk is looked up in one step with the freeze */
          if :: !down -> there = cchunk[s] && chunk[s];
#ifndef NO_FREEZE
             frozen[s] = there
#endif
          :: else -> there = false fi
        };
        atomic {
          v = 0;
          if
          :: there && !down && val[s] != 0 && !COVERED(birth[s], s) -> v = src[s];
             assert(disturbed || tgt[s] != v || early[s])           /* nothing twice */
          :: else
          fi
        };
        atomic { if :: !down && v != 0 && !broken -> tgt[s] = v :: else fi };
        atomic {
          if
          :: !down -> frozen[s] = false;
             if :: !broken && state == COPYING -> if :: g1 != 0 -> again = s + 1 :: else -> cursor = s + 1 fi
                :: else fi
          :: else
          fi;
          s = 0; v = 0; there = false
        }
     :: else ->
        atomic { if :: !down && !broken -> swap_wanted = true :: else fi };
        (PAUSE(over || broken || gen == COMMITS));
        if :: gen == COMMITS && !over && !broken && !down -> break :: else fi
     fi
  :: !down && gen == COMMITS -> break
  od;
  (down || over || gen == COMMITS);
  if :: down -> skip :: else -> (down || over || gen == COMMITS); (down) fi;
  stopped++
}

/* The world: power cuts, failures of the target, recovery. */
active proctype world() {
  byte s;
  run committer(); run replacer();
  s = 0;
  do :: s < WRITERS -> run writer(); s++ :: else -> break od;
  do
  :: faults > 0 && !over && DUP ->
     atomic { if :: DUP && !over -> faults--; disturbed = true; suspend() :: else fi }
  :: crashes > 0 ->
     atomic { crashes--; down = true; disturbed = true };
     (stopped == TASKS);
     atomic {
       stopped = 0;
       s = 0;
       do
       :: s < N ->
          val[s] = cval[s]; birth[s] = cbirth[s]; chunk[s] = cchunk[s];
          pin[s] = 0; in_flight[s] = false; frozen[s] = false;
          if :: tgt[s] = tdur[s] :: tdur[s] = tgt[s] fi;            /* the cut keeps any subset */
          /* The member's bytes: the source's, or after the swap the target's. */
          if :: target_is_member -> assert(cval[s] == 0 || tgt[s] == cval[s])
             :: else -> assert(cval[s] == 0 || src[s] == cval[s]) fi;
          s++
       :: else -> break
       od;
       s = 0;
       do :: s < MAPS -> guards[s] = 0; map_dup[s] = false; s++ :: else -> break od;
       map = 0;
       gen = cgen + 1; state = cstate; cursor = ccursor; again = cagain;
       g0 = cg0; closed = cclosed; g1 = cg1; armed_ready = false; swap_wanted = false;
       /* Before the first write: armed again, no gap - if the record says so. */
       map_dup[0] = (cstate == COPYING); broken = (cstate == SUSPENDED);
       if :: cstate == NONE -> g0 = 0; closed = 0; g1 = 0; cursor = 0; again = 0 :: else fi;
       over = target_is_member; down = false
     };
     run committer(); run replacer();
     s = 0;
     do :: s < WRITERS -> run writer(); s++ :: else -> break od
  :: over || gen == COMMITS -> break
  od
}
