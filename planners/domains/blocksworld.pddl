; One arm, one table, cubes in towers.
(define (domain blocksworld)
  (:requirements :strips)
  (:predicates
    (arm-empty)
    (holding ?x)
    (clear ?x)
    (on-table ?x)
    (on ?x ?y))

  (:action pickup
    :parameters (?x)
    :precondition (and (arm-empty) (clear ?x) (on-table ?x))
    :effect (and (holding ?x)
                 (not (arm-empty)) (not (clear ?x)) (not (on-table ?x))))

  (:action putdown
    :parameters (?x)
    :precondition (holding ?x)
    :effect (and (arm-empty) (clear ?x) (on-table ?x)
                 (not (holding ?x))))

  (:action stack
    :parameters (?x ?y)
    :precondition (and (holding ?x) (clear ?y))
    :effect (and (arm-empty) (clear ?x) (on ?x ?y)
                 (not (holding ?x)) (not (clear ?y))))

  (:action unstack
    :parameters (?x ?y)
    :precondition (and (arm-empty) (clear ?x) (on ?x ?y))
    :effect (and (holding ?x) (clear ?y)
                 (not (arm-empty)) (not (clear ?x)) (not (on ?x ?y)))))
